"""Where a conversion reads from: a file, an archive, or a name of the catalogue, which is downloaded."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.conversion import CONVERSION_FILE
from ..core.digest import sha256_of_file
from ..core.errors import ConfigurationError, SpeechPromptError
from ..core.files import read_json, write_json
from ..core.locations import is_disk_full
from .archive import extract, is_archive, list_members
from .catalogue import SERVER, address, find_entry
from .catalogue_types import CatalogueEntry, CatalogueFile, Kind
from .download import Download, OnProgress, download
from .download_errors import DiskFullError
from .errors import ConversionError
from .file_kinds import kind_of_file, wrong_kind
from .places import no_file

__all__ = ["Progress", "Source", "open_source", "record_origin"]

Progress = Callable[[str], AbstractContextManager[OnProgress]]
"""Makes of a file's name what reports the download of that file."""


_CHECKPOINTS: dict[Kind, tuple[str, ...]] = {
    "quantizer": ("km.bin", "*.bin", "*.km", "*.joblib", "*.pkl"),
    "encoder": ("*.pt", "*.pth"),
    "gslm": ("checkpoint_best.pt", "*.pt"),
    "unit-mbart": ("checkpoint.pt", "checkpoint_best.pt", "*.pt"),
    "hifigan": ("g_*", "*.pt", "*.pth"),
    "prompt": ("checkpoint_best.pt", "*.pt"),
}
_COMPANIONS: dict[Kind, tuple[str, ...]] = {
    "gslm": ("dict.txt",),
    "unit-mbart": ("dict.txt",),
    "hifigan": ("config.json", "*_config.json"),
}
_OPTIONS = {"gslm": "--dict", "unit-mbart": "--dict", "hifigan": "--config"}
_ANY_CHECKPOINT = tuple(dict.fromkeys(pattern for patterns in _CHECKPOINTS.values() for pattern in patterns))


@dataclass(frozen=True)
class Source:
    """Files that a converter can read.

    Attributes:
        checkpoint (`Path`): the weights.
        companion (`Path`, *optional*): what the kind needs beside them: a dictionary, a vocoder's settings.
        origin (`dict[str, Any]`): where they came from: `file`, `sha256`, and for a name of the catalogue `name`,
            `url`, `licence`, `verified`. `companion` holds `file` and `sha256` of a companion that was not in the
            archive, and `url` and `verified` of one that was downloaded.
        entry (`CatalogueEntry`, *optional*): of the catalogue.
    """

    checkpoint: Path
    companion: Path | None
    origin: dict[str, Any] = field(default_factory=dict)
    entry: CatalogueEntry | None = None


@contextmanager
def open_source(
    kind: Kind,
    source: str | Path,
    *,
    cache_dir: str | Path,
    scratch: str | Path,
    companion: str | Path | None = None,
    server: str = SERVER,
    progress: Progress | None = None,
) -> Iterator[Source]:
    """Find, fetch and unpack what a converter needs.

    Args:
        kind (`str`): `"quantizer"`, `"encoder"`, `"gslm"`, `"unit-mbart"`, `"hifigan"` or `"prompt"`.
        source (`str | Path`): a checkpoint, a .tgz, .tar or .zip that holds it, or a name of the catalogue.
        cache_dir (`str | Path`): downloads are kept in its folder `downloads`.
        scratch (`str | Path`): folder for what is unpacked, which is deleted when the block ends; made if absent.
        companion (`str | Path`, *optional*): dict.txt or config.json; by default the one in the archive, in the
            catalogue, or beside the file.
        server (`str`, defaults to the publishers'): address of a server with the same paths.
        progress (`Callable`, *optional*): for each download, called with the file's name.

    Yields:
        `Source`.

    Raises:
        ConfigurationError: there is no such file or name, or the companion is missing.
        ConversionError: an archive is damaged or lacks the checkpoint, or the checkpoint is of another kind. Errors
            inside the block name members of archives as such.
        DownloadError: of one of its kinds; `DiskFullError` also where there is no room to unpack.
    """
    path = Path(source)
    names: dict[str, str] = {}
    with _said_with(names), ExitStack() as stack:
        unpack = _Unpacking(kind, Path(scratch), stack, names)
        if path.exists():
            yield _local(unpack, path, _given(companion))
            return
        entry = find_entry(kind, str(source))
        done = _fetch(entry.file, Path(cache_dir), server, progress)
        facts = {"name": entry.name, "url": done.url, "licence": entry.licence, "verified": done.verified}
        beside = _given(companion)
        beside_origin: dict[str, Any] = {}
        if beside is None and entry.companion is not None:
            fetched = _fetch(entry.companion, Path(cache_dir), server, progress)
            beside, beside_origin = fetched.path, {"url": fetched.url, "verified": fetched.verified}
        found = _local(unpack, done.path, beside)
        origin = {**found.origin, **facts}
        if "companion" in origin:
            origin["companion"] = {**origin["companion"], **beside_origin}
        yield Source(found.checkpoint, found.companion, origin, entry)


def record_origin(folder: str | Path, origin: dict[str, Any]) -> None:
    """Add to a converted folder's `conversion.json` where its source came from.

    Args:
        folder (`str | Path`): what a converter wrote; nothing happens where it keeps no such record.
        origin (`dict[str, Any]`): of a [`Source`].
    """
    path = Path(folder) / CONVERSION_FILE
    if path.is_file():
        write_json(path, {**read_json(path), "origin": origin})


def _given(companion: str | Path | None) -> Path | None:
    if companion is None:
        return None
    if not Path(companion).is_file():
        raise ConfigurationError(no_file(companion), hint="give the file itself, spelled as it is on the disk")
    return Path(companion)


@contextmanager
def _said_with(names: dict[str, str]) -> Iterator[None]:
    """Let errors call what was unpacked by its name in the archive: its own path is gone when they are read."""
    try:
        yield
    except SpeechPromptError as error:
        # A folder's path is the beginning of those of its files.
        for path in sorted(names, key=len, reverse=True):
            error.args = tuple(_renamed(part, path, names[path]) for part in error.args)
            error.hint = _renamed(error.hint, path, names[path])
        raise


def _renamed(text: Any, path: str, name: str) -> Any:
    return text.replace(path, name) if isinstance(text, str) else text


@dataclass(frozen=True)
class _Unpacking:
    """What to look for in archives, and where to put it until the stack is left; `names` gets what it is called."""

    kind: Kind
    scratch: Path
    stack: ExitStack
    names: dict[str, str]

    def __call__(self, path: Path) -> tuple[Path, Path | None]:
        self.scratch.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(prefix=".unpacked.", dir=self.scratch, ignore_cleanup_errors=True)
        folder = self.stack.enter_context(temporary)
        self.names[folder] = str(self.scratch)
        found = self._extracted(path, Path(folder), _wanted(self.kind))
        if "checkpoint" not in found:
            raise self._nothing_found(path, Path(folder))
        return found["checkpoint"], found.get("companion")

    def _extracted(self, path: Path, folder: Path, wanted: dict[str, tuple[str, ...]]) -> dict[str, Path]:
        try:
            found = extract(path, wanted, folder)
        except OSError as error:
            if not is_disk_full(error):
                raise
            raise DiskFullError(
                f"no room on the disk to unpack {path} into {folder}: {error.strerror}",
                hint="make room, and try again",
            ) from error
        for role, file in found.items():
            # A name with odd characters is not used on the disk.
            self.names[str(file)] = f"{file.name if file.name != role else f'the {role}'} in {path}"
        return found

    def _nothing_found(self, path: Path, folder: Path) -> ConversionError:
        try:
            found = self._extracted(path, folder, {"other": _ANY_CHECKPOINT})
        except SpeechPromptError:
            found = {}
        if "other" in found and (kind := kind_of_file(found["other"])) is not None and kind.kind != self.kind:
            return wrong_kind(self.kind, str(found["other"]), kind)
        names = [member.path[:80] for member in list_members(path)]
        return ConversionError(
            f"{path} holds no {' or '.join(_CHECKPOINTS[self.kind])}, but {', '.join(names[:6]) or 'no file at all'}",
            hint=f"it is no archive of a {self.kind}; a checkpoint inside another archive has to be unpacked first",
        )


def _wanted(kind: Kind) -> dict[str, tuple[str, ...]]:
    companion = {"companion": _COMPANIONS[kind]} if kind in _COMPANIONS else {}
    return {"checkpoint": _CHECKPOINTS[kind], **companion}


def _local(unpack: _Unpacking, path: Path, companion: Path | None) -> Source:
    kind = unpack.kind
    if not path.is_file():
        what = kind_of_file(path)
        place = "in it" if path.is_dir() else "itself"
        hint = f"it seems to be {what.text}: {what.hint}" if what else f"give the checkpoint {place}, or an archive"
        raise ConfigurationError(no_file(path), hint=hint)
    origin: dict[str, Any] = {"file": path.name, "sha256": sha256_of_file(path)}
    checkpoint, inside = unpack(path) if is_archive(path) else (path, None)
    # Before anything is asked for that belongs beside it.
    if not checkpoint.stat().st_size:
        raise ConversionError(f"{checkpoint} is empty", hint="download or copy it again")
    if companion is None and checkpoint == path:
        companion = _beside(kind, path)
    if companion is not None:
        origin["companion"] = {"file": companion.name, "sha256": sha256_of_file(companion)}
    companion = companion or inside
    if companion is None and kind in _COMPANIONS:
        if (what := kind_of_file(checkpoint)) is not None and what.kind != kind:
            raise wrong_kind(kind, str(checkpoint), what)
        raise ConfigurationError(
            f"{kind} needs {_COMPANIONS[kind][0]}, which is neither in nor beside {path}",
            hint=f"name it: companion= in Python, {_OPTIONS[kind]} on the command line",
        )
    return Source(checkpoint, companion, origin)


def _beside(kind: Kind, path: Path) -> Path | None:
    for pattern in _COMPANIONS.get(kind, ()):
        found = sorted(path.parent.glob(pattern))
        if len(found) == 1:
            return found[0]
    return None


def _fetch(file: CatalogueFile, cache_dir: Path, server: str, progress: Progress | None) -> Download:
    with progress(Path(file.path).name) if progress is not None else nullcontext() as report:
        return download(
            address(file, server), cache_dir / "downloads" / file.path, sha256=file.sha256, on_progress=report
        )
