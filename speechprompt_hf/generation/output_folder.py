"""A folder of generated speech: whole files, a line for each, and what a stopped run goes on from."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from ..core.digest import sha256_of_file
from ..core.errors import AudioValueError, ConfigurationError
from ..core.extras import require
from ..core.files import atomic_path, read_json, write_json, write_text

__all__ = ["LINES_FILE", "OPTIONS_FILE", "OutputFolder", "write_wave"]

LINES_FILE = "generations.jsonl"
"""One line for each generated file."""

OPTIONS_FILE = "generation.json"
"""What made all of them: model, vocoder and options."""

_LOCK = ".lock"
# Names that `atomic_path` gives to what it has not finished.
_UNFINISHED = re.compile(rf"\.(.+\.wav\.\w{{8}}\.wav|{LINES_FILE}\.\w{{8}}\.jsonl|{OPTIONS_FILE}\.\w{{8}}\.json)")


class OutputFolder:
    """Generated speech in a folder, of one model and one set of options; one process at a time writes there.

    The lines of a recording are in the folder before its files are: each file that was made here is listed, whenever
    a run was killed, and one that is not is somebody else's.

    Args:
        folder (`str | PathLike`): made where it is missing.
        made_with (`Mapping`): JSON values that say what makes the speech; the folder of a run with others is refused.
        overwrite (`bool`, defaults to `False`): take what an earlier run generated there away.

    Raises:
        ConfigurationError: the folder holds speech that was made with other options, recordings that were not
            generated or that no line lists, or another process writes there.
    """

    def __init__(
        self, folder: str | os.PathLike[str], made_with: Mapping[str, Any], *, overwrite: bool = False
    ) -> None:
        self.path = Path(folder)
        self._made_with = dict(made_with)
        self._overwrite = overwrite
        self._lines: dict[str, list[dict[str, Any]]] = {}
        self._names: dict[str, str] = {}

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.path / _LOCK)
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise ConfigurationError(
                f"another process generates speech into {self.path}",
                hint="wait for it, or choose another folder (--output)",
            ) from error
        try:
            self._begin()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *details: object) -> None:
        try:
            self._write_lines()
        finally:
            self._lock.release()

    def _begin(self) -> None:
        options = self.path / OPTIONS_FILE
        if options.is_file():
            known = read_json(options)
            if known != self._made_with and not self._overwrite:
                raise ConfigurationError(
                    f"{self.path} holds speech that was made with other options: "
                    f"{_difference(known, self._made_with)}",
                    hint="choose another folder (--output), or replace it: overwrite=True (--overwrite)",
                )
            self._read_lines()
            if known != self._made_with:
                self._take_away()
            # What a killed run was writing; nobody else writes here now.
            for left in self.path.iterdir():
                if _UNFINISHED.fullmatch(left.name):
                    left.unlink()
        else:
            strangers = sorted(self.path.glob("[!.]*.wav"))
            if strangers:
                raise ConfigurationError(
                    f"{self.path} holds recordings that were not generated, first {strangers[0].name}",
                    hint="choose an empty folder (--output)",
                )
        write_json(options, self._made_with)

    def _read_lines(self) -> None:
        path = self.path / LINES_FILE
        if not path.is_file():
            return
        # Only by line feeds: names may hold what else ends lines. A machine that stopped leaves a part of a last line.
        *texts, part = path.read_text(encoding="utf-8", errors="replace").split("\n")
        for number, text in enumerate(texts):
            try:
                line = json.loads(text)
                # Lines of a recording that was made anew follow the old ones.
                earlier = self._lines.get(line["file"], []) if line["sample"] else []
                self._lines[line["file"]] = [*earlier, line]
                self._names[Path(line["output"]).name] = line["file"]
            except (ValueError, KeyError, TypeError) as error:
                raise ConfigurationError(
                    f"line {number + 1} of {path} is damaged",
                    hint="delete the file: what it lists is made again with the same options",
                ) from error
        if part:
            self._write_lines()

    def _take_away(self) -> None:
        strangers = sorted(path.name for path in self.path.glob("[!.]*.wav") if path.name not in self._names)
        if strangers:
            raise ConfigurationError(
                f"{self.path} holds recordings that {LINES_FILE} does not list, first {strangers[0]}",
                hint="move or delete them, or choose another folder (--output)",
            )
        for name in self._names:
            (self.path / name).unlink(missing_ok=True)
        self._lines, self._names = {}, {}
        (self.path / LINES_FILE).unlink(missing_ok=True)

    def done(self, file: str, sha256: str) -> list[dict[str, Any]] | None:
        """The lines of a recording whose speech is there and whole, else `None`.

        Args:
            file (`str`): the recording.
            sha256 (`str`): of its content.
        """
        lines = self._lines.get(file)
        if not lines or len(lines) != lines[0].get("samples"):
            return None
        for line in lines:
            path = self.path / Path(line["output"]).name
            if line.get("sha256") != sha256 or not path.is_file() or sha256_of_file(path) != line["output_sha256"]:
                return None
        return lines

    def write(
        self, file: str, waves: Sequence[NDArray[np.float32]], rate: int, facts: Iterable[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Write the speech that was made of a recording.

        Args:
            file (`str`): the recording.
            waves (`Sequence[NDArray[float32]]`): its N samples of speech, each of shape `(S,)` in [-1, 1].
            rate (`int`): their sampling rate in hertz.
            facts (`Iterable[Mapping]`): N records for the lines, `sha256` of the recording among them.

        Returns:
            `list[dict]`: the N lines.

        Raises:
            AudioValueError: a sample is not finite.
        """
        names = self._free_names(file, len(waves))
        lines = []
        with ExitStack() as moved_at_the_end:
            for number, (wave, name, fact) in enumerate(zip(waves, names, facts, strict=True)):
                temporary = moved_at_the_end.enter_context(atomic_path(self.path / name))
                write_wave(temporary, wave, rate, name=name)
                lines.append(
                    {
                        "file": file,
                        "output": name,
                        "sample": number,
                        "samples": len(waves),
                        "seconds": len(wave) / rate,
                        "sampling_rate": rate,
                        "output_sha256": sha256_of_file(temporary),
                        **fact,
                    }
                )
            with (self.path / LINES_FILE).open("a", encoding="utf-8") as listed:
                listed.write(_as_text(lines))
        self._names.update(dict.fromkeys(names, file))
        self._lines[file] = lines
        return lines

    def _free_names(self, file: str, number: int) -> list[str]:
        """Names like the recording's; where they are another recording's, with a digest of its path."""
        stem = Path(file).stem.lstrip(".") or "recording"
        digest = hashlib.sha256(file.encode("utf-8", "surrogateescape")).hexdigest()
        for base in (stem, f"{stem}-{digest[:8]}", f"{stem}-{digest}"):
            names = [f"{base}.wav"] if number == 1 else [f"{base}-{sample + 1}.wav" for sample in range(number)]
            if all(self._names.get(name, file) == file for name in names):
                break
        for line in self._lines.pop(file, ()):
            if line["output"] not in names:
                (self.path / Path(line["output"]).name).unlink(missing_ok=True)
            self._names.pop(line["output"], None)
        return names

    def _write_lines(self) -> None:
        # In an order of their own, however often a run was stopped.
        write_text(self.path / LINES_FILE, "".join(_as_text(lines) for _, lines in sorted(self._lines.items())))


def _as_text(lines: Iterable[Mapping[str, Any]]) -> str:
    # As ASCII: names of files need not be UTF-8.
    return "".join(json.dumps(line, ensure_ascii=True) + "\n" for line in lines)


def write_wave(target: Path | BinaryIO, wave: NDArray[np.float32], rate: int, *, name: str) -> None:
    """Write sound as wav (16 bit), as loud as it is.

    Args:
        target (`Path | BinaryIO`): a file, or a stream.
        wave (`NDArray[float32]` of shape `(S,)`): samples; those outside of [-1, 1] are clipped.
        rate (`int`): in Hz.
        name (`str`): what it is, for the message.

    Raises:
        AudioValueError: a sample is not finite.
    """
    if not np.isfinite(wave).all():
        position = int(np.flatnonzero(~np.isfinite(wave))[0])
        raise AudioValueError(
            f"sample {position} that the vocoder made for {name} is {wave[position]}",
            hint="its weights are damaged, or the units are not those that it was trained on",
        )
    # An open file: libsndfile takes no names that are not UTF-8.
    with target.open("wb") if isinstance(target, Path) else nullcontext(target) as stream:
        require("soundfile").write(stream, np.clip(wave, -1, 1), rate, subtype="PCM_16", format="WAV")


def _difference(known: Any, wanted: Mapping[str, Any]) -> str:
    """The first value that is another one."""
    known = known if isinstance(known, dict) else {}
    for name in sorted({*known, *wanted}):
        there, here = known.get(name), wanted.get(name)
        if isinstance(there, dict) and isinstance(here, dict) and there != here:
            return _difference(there, here)
        if there != here:
            return f"{name} was {there!r:.40} and is {here!r:.40}"
    return "its record is damaged"
