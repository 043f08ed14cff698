"""Recordings and their units, frame by frame, on disk; segments of both."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from ..core.audio_io import load_waveform
from ..core.digest import sha256_of_json
from ..core.errors import ConfigurationError, DatasetError
from ..core.files import atomic_path, read_json, write_json
from ..core.units import merge_runs
from ..data.extraction import extract_units
from ..data.progress import ProgressBar

__all__ = ["AlignedSpeech", "SpeechBatch", "align_speech"]

_MAX_DURATION_UNITS = 200  # of a row in the duration loss


@dataclass(frozen=True)
class SpeechBatch:
    """Segments of speech, and the units of recordings for the duration predictor.

    Attributes:
        frames (`LongTensor` of shape `(B, T)`): a unit a frame, 0 behind a row's end.
        num_frames (`LongTensor` of shape `(B,)`): real frames of each row.
        waveform (`Tensor` of shape `(B, T * hop)`): float32 in [-1, 1], zero behind a row's end.
        speakers (`LongTensor` of shape `(B,)`): the voice of each row.
        units (`LongTensor` of shape `(B, U)`): merged units.
        durations (`LongTensor` of shape `(B, U)`): their frames, 0 for padding.
    """

    frames: Tensor
    num_frames: Tensor
    waveform: Tensor
    speakers: Tensor
    units: Tensor
    durations: Tensor

    def rows(self, chosen: slice) -> SpeechBatch:
        """These rows of the batch."""
        return SpeechBatch(*(getattr(self, each.name)[chosen] for each in fields(self)))

    def to(self, device: torch.device) -> SpeechBatch:
        """The batch on this device."""
        return SpeechBatch(*(getattr(self, each.name).to(device) for each in fields(self)))


class AlignedSpeech:
    """A folder of [`align_speech`]: its samples are read from the disk as they are drawn.

    Args:
        folder (`str | PathLike`): `samples.i16` (int16, all recordings one behind the other), `index.npz`,
            `speech.json`.

    Raises:
        ConfigurationError: files are missing or do not fit each other.

    Attributes:
        hop (`int`): samples of a frame.
        sampling_rate (`int`): in hertz.
        digest (`str`): identity of recordings and units.
        speakers (`list[str]`): names of the voices; empty for one without a name.
        num_frames (`NDArray[int64]` of shape `(R,)`): frames of each recording.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        path = Path(folder)
        try:
            about = read_json(path / "speech.json")
            with np.load(path / "index.npz", allow_pickle=False) as index:
                self._frames, self._starts, self._voices = index["frames"], index["starts"], index["voices"]
            self._samples = np.memmap(path / "samples.i16", dtype="<i2", mode="r")
        except (OSError, ValueError, KeyError) as error:
            raise ConfigurationError(f"{path} holds no aligned speech: {error}", hint="delete it") from error
        self.hop, self.sampling_rate = int(about["hop"]), int(about["sampling_rate"])
        self.digest, self.speakers = str(about["digest"]), list(about["speakers"])
        if len(self._frames) != self._starts[-1] or len(self._samples) != self.hop * len(self._frames):
            raise ConfigurationError(f"{path} is damaged: its parts do not fit each other", hint="delete it")
        self.num_frames = np.diff(self._starts)

    def __len__(self) -> int:
        return len(self.num_frames)

    @property
    def seconds(self) -> float:
        """Speech in it."""
        return float(len(self._samples)) / self.sampling_rate

    def recording(self, row: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Frame units (int64), samples (float32) and voice of one recording."""
        first, last = int(self._starts[row]), int(self._starts[row + 1])
        return self._frames[first:last].astype(np.int64), self._wave(first, last), int(self._voices[row])

    def _wave(self, first: int, last: int) -> np.ndarray:
        return self._samples[first * self.hop : last * self.hop].astype(np.float32) / 32768.0

    def draw(self, generator: np.random.Generator, *, batch_size: int, num_frames: int) -> SpeechBatch:
        """Segments at random: long recordings more often, every place of them as often.

        Args:
            generator (`np.random.Generator`): source of all draws.
            batch_size (`int`): B.
            num_frames (`int`): T.
        """
        weights = self.num_frames / self.num_frames.sum()
        rows = generator.choice(len(self), size=batch_size, p=weights)
        frames = np.zeros((batch_size, num_frames), dtype=np.int64)
        counts = np.zeros(batch_size, dtype=np.int64)
        waves = np.zeros((batch_size, num_frames * self.hop), dtype=np.float32)
        runs = []
        for index, row in enumerate(rows):
            begin, length = int(self._starts[row]), int(self.num_frames[row])
            first = begin + int(generator.integers(max(1, length - num_frames + 1)))
            last = min(first + num_frames, begin + length)
            counts[index] = last - first
            frames[index, : last - first] = self._frames[first:last]
            waves[index, : (last - first) * self.hop] = self._wave(first, last)
            units, durations = merge_runs(self._frames[begin : begin + length].astype(np.int64))
            skipped = int(generator.integers(max(1, len(units) - _MAX_DURATION_UNITS + 1)))
            runs.append([part[skipped : skipped + _MAX_DURATION_UNITS] for part in (units, durations)])
        longest = max(len(units) for units, _ in runs)
        padded = np.zeros((2, batch_size, longest), dtype=np.int64)
        for index, parts in enumerate(runs):
            for kind, part in enumerate(parts):
                padded[kind, index, : len(part)] = part
        arrays = (frames, counts, waves, self._voices[rows].astype(np.int64), *padded)
        return SpeechBatch(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))


def align_speech(
    rows: Dataset,
    processor: Any,
    folder: str | os.PathLike[str],
    *,
    speaker_column: str | None = None,
    speakers: list[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    show_progress: bool = True,
    on_skip: Callable[[str, str], None] | None = None,
) -> AlignedSpeech:
    """Recordings with the units of their frames, written once.

    Frame j of an encoder sees `min_samples` samples from `hop * j` on: its `hop` samples are those in the middle.
    Recordings longer than the encoder's chunks are left out: behind a chunk's end frames are no more `hop` apart.

    Args:
        rows (`Dataset`): with the column `audio`.
        processor (`SpeechUnitProcessor`): makes the units.
        folder (`str | PathLike`): receives the speech; one that holds the same is left as it is.
        speaker_column (`str`, *optional*): names the voice of each row; a single one by default.
        speakers (`list[str]`, *optional*): names of known voices, by default those of the rows; rows of others are
            left out.
        cache_dir (`str | PathLike`, *optional*): of the units.
        show_progress (`bool`, *optional*, defaults to `True`): show bars.
        on_skip (`Callable`, *optional*): receives the name of a recording that was left out, and why.

    Returns:
        [`AlignedSpeech`].

    Raises:
        DatasetError: there is no column, or not one recording can be used.
    """
    path = Path(folder)
    if "audio" not in rows.column_names:
        raise DatasetError("this corpus holds no recordings", hint="give the recordings, not their units")
    if speaker_column is not None and speaker_column not in rows.column_names:
        raise DatasetError(f"there is no column {speaker_column!r}, but {', '.join(rows.column_names)}")
    voices: list[str | None] = [None] * len(rows)
    if speaker_column is not None:
        voices = [str(name) for name in rows[speaker_column]]
    known = speakers if speakers is not None else sorted({name for name in voices if name is not None})
    keep = [row for row, name in enumerate(voices) if name is None or name in known]
    table = rows.select_columns([name for name in ("audio", "item") if name in rows.column_names])
    if "item" not in table.column_names:
        table = table.add_column("item", [f"row {row}" for row in range(len(rows))])
    names = list(table["item"])
    if on_skip is not None:
        for row in sorted({*range(len(rows))} - {*keep}):
            on_skip(names[row], f"its voice {voices[row]!r} is not one of {', '.join(known[:20])}")
    if not keep:
        raise DatasetError("not one recording has a known voice", hint=f"the voices are {', '.join(known[:20])}")
    table = table.add_column("row", list(range(len(rows)))).select(keep)
    extracted = extract_units(table, processor, cache_dir=cache_dir, progress=show_progress)
    description = processor.unit_encoder.description
    longest = description.chunk_samples // processor.unit_encoder.hop_samples
    fits = [row for row, lasts in enumerate(extracted.dataset["durations"]) if sum(lasts) <= longest]
    if on_skip is not None:
        for skip in extracted.skips:
            on_skip(skip.item, skip.message)
        for row in sorted({*range(len(extracted.dataset))} - {*fits}):
            name = names[extracted.dataset[row]["row"]]
            on_skip(name, f"it is longer than the encoder's chunk of {longest} frames")
    if not fits:
        raise DatasetError("not one recording can be used", hint="cut the recordings into sentences")
    units = extracted.dataset.select(fits)
    digest = sha256_of_json(
        {
            "units": processor.fingerprint["digest"],
            "contents": list(units["content"]),
            "voices": [voices[row] for row in units["row"]],
            "speakers": known,
        }
    )
    if (path / "speech.json").is_file() and read_json(path / "speech.json").get("digest") == digest:
        return AlignedSpeech(path)
    _write(path, rows, units, processor, voices, known, digest, show_progress=show_progress)
    return AlignedSpeech(path)


def _write(
    path: Path,
    rows: Dataset,
    units: Dataset,
    processor: Any,
    voices: list[str | None],
    known: list[str],
    digest: str,
    *,
    show_progress: bool,
) -> None:
    encoder = processor.unit_encoder
    hop, rate = int(encoder.hop_samples), int(encoder.description.sampling_rate)
    edge = max(0, (encoder.min_samples - hop) // 2)
    frames, starts, numbers = [], [0], []
    path.mkdir(parents=True, exist_ok=True)
    (path / "speech.json").unlink(missing_ok=True)
    with (
        atomic_path(path / "samples.i16") as temporary,
        temporary.open("wb") as file,
        ProgressBar("recordings", total=len(units), show=show_progress) as bar,
    ):
        for number, durations, row in zip(units["units"], units["durations"], units["row"], strict=True):
            row_units, row_durations = np.asarray(number), np.asarray(durations)
            # Marks of prosody between units last no frame.
            real = row_durations > 0
            row_frames = np.repeat(row_units[real], row_durations[real]).astype("<i4")
            wave = load_waveform(rows[row]["audio"], target_rate=rate)
            wanted = hop * len(row_frames)
            wave = wave[edge : edge + wanted]
            wave = np.pad(wave, (0, wanted - len(wave)))
            (np.clip(wave, -1.0, 32767 / 32768) * 32768.0).round().astype("<i2").tofile(file)
            frames.append(row_frames)
            starts.append(starts[-1] + len(row_frames))
            voice = voices[row]
            numbers.append(0 if voice is None else known.index(voice))
            bar.advance()
    with atomic_path(path / "index.npz") as temporary:
        np.savez(temporary, frames=np.concatenate(frames), starts=np.array(starts), voices=np.array(numbers))
    write_json(path / "speech.json", {"digest": digest, "hop": hop, "sampling_rate": rate, "speakers": known})
