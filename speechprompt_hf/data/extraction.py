"""Recordings of a data set to units, each recording once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset, List, Value

from ..core.audio_io import load_waveform
from ..core.errors import AudioDecodeError, AudioError, DatasetError
from .augmentation import Augmentation
from .progress import ProgressBar
from .unit_batches import batches_by_length, encode_batch
from .unit_store import UnitStore

__all__ = ["ExtractedUnits", "SkippedItem", "extract_units", "units_of"]

# Recordings and samples (17 min at 16 kHz) decoded before they are sorted by length and batched.
_WINDOW_ROWS = 256
_WINDOW_SAMPLES = 16_000_000

# Why a row or a key of the cache has no units: name of the error class and message.
Reasons = dict[Any, tuple[str, str]]


@dataclass(frozen=True)
class SkippedItem:
    """A recording that was left out.

    Attributes:
        item (`str`): its path or row.
        error (`str`): name of the error class.
        message (`str`): what is wrong with it.
    """

    item: str
    error: str
    message: str


@dataclass(frozen=True)
class ExtractedUnits:
    """Units of a data set.

    Attributes:
        dataset (`Dataset`): the rows that have units, in order, with the columns `units` and `durations` (lists of
            int), `content` (hash of the recording), `prosody` (list of int, one code a unit, where the processor makes
            a second stream) and all columns of the input but `audio`; copies made by
            augmentation follow at the end.
        skips (`tuple[SkippedItem, ...]`): the rows left out.
        num_encoded (`int`): recordings that ran through the encoder now; the others came from the cache.
    """

    dataset: Dataset
    skips: tuple[SkippedItem, ...]
    num_encoded: int


def units_of(dataset: Dataset, processor: Any, cache_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """The rows of `extract_units` alone."""
    return extract_units(dataset, processor, cache_dir=cache_dir).dataset


def extract_units(
    dataset: Dataset,
    processor: Any,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    num_copies: int = 0,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    progress: bool = False,
) -> ExtractedUnits:
    """Units of every recording, from the cache where they are there.

    A recording that cannot be used (corrupt, truncated, empty, too short, not finite) is left out and listed; it never
    ends the run, and is tried again by the next one. A killed run continues where it was.

    Args:
        dataset (`Dataset`): rows with the column `audio`, as `load_splits` gives them; rows that already have `units`
            are returned as they are.
        processor (`SpeechUnitProcessor`): makes the units.
        cache_dir (`str | PathLike`, *optional*): `default_cache_dir()` by default.
        num_copies (`int`, defaults to 0): augmented copies of every recording, for training rows.
        augmentation (`Augmentation`, *optional*): what copies are drawn from.
        seed (`int`, defaults to 0): of the copies.
        progress (`bool`, defaults to `False`): show a bar on stderr; it counts only what is really encoded.

    Returns:
        `ExtractedUnits`.

    Raises:
        DatasetError: not one recording can be used.
    """
    if "units" in dataset.column_names:
        return ExtractedUnits(dataset, (), 0)
    store = _open_store(processor.fingerprint, cache_dir)
    copies = [Copy(number, augmentation or Augmentation(), seed) for number in range(1, num_copies + 1)]
    items = list(dataset["item"]) if "item" in dataset.column_names else [f"row {row}" for row in range(len(dataset))]
    contents, reasons = _hash_rows(dataset)
    keys = {row: [content, *(copy.key(content) for copy in copies)] for row, content in contents.items()}
    known = set(store.get(key for row_keys in keys.values() for key in row_keys))
    pending = {row: row_keys for row, row_keys in keys.items() if not known.issuperset(row_keys)}
    if pending and hasattr(processor, "unit_encoder"):
        # A wrong or missing encoder is an error of the run, not of its first recordings.
        processor.unit_encoder.load()
    rate = int(processor.feature_extractor.sampling_rate)
    with ProgressBar("units", total=len(pending), show=progress) as bar:
        for rows, waves in _decoded_windows(dataset, pending, copies, processor, known, items, reasons):
            for batch in batches_by_length(waves):
                units, failed = encode_batch({key: waves[key] for key in batch}, processor, rate)
                store.put(units)
                known.update(units)
                reasons |= failed
            bar.advance(rows)
    num_encoded = sum(row_keys[0] in known for row_keys in pending.values())
    return _assemble(dataset, keys, store, items, reasons, num_encoded)


def _open_store(fingerprint: Mapping[str, Any], cache_dir: str | os.PathLike[str] | None) -> UnitStore:
    """The cache of this processor; one with a second stream has a file of its own."""
    both = fingerprint.get("streams_digest")
    return UnitStore(both or fingerprint["digest"], cache_dir, with_prosody=both is not None)


@dataclass(frozen=True)
class Copy:
    """One augmented copy of every recording."""

    number: int
    augmentation: Augmentation
    seed: int

    def key(self, content: str) -> str:
        """The cache's key for this copy of a recording."""
        text = f"{content}/{self.augmentation.digest}/{self.seed}/{self.number}"
        return hashlib.sha256(text.encode()).hexdigest()

    def make(self, waveform: np.ndarray, rate: int, content: str) -> np.ndarray:
        """The changed samples; the same for the same recording, seed and number."""
        generator = np.random.default_rng(int(self.key(content)[:16], 16))
        return self.augmentation.apply(waveform, rate, generator)


def content_hash(audio: Any) -> str:
    """SHA-256 of a recording as it is stored: the file's bytes, or samples and rate.

    Raises:
        AudioDecodeError: there is no such file.
    """
    if isinstance(audio, Mapping) and audio.get("array") is not None:
        array = np.ascontiguousarray(audio["array"], dtype=np.float32)
        head = f"array {audio.get('sampling_rate')} ".encode()
        return hashlib.sha256(head + array.tobytes()).hexdigest()
    if isinstance(audio, Mapping):
        audio = audio["bytes"] if audio.get("bytes") is not None else audio.get("path")
    if isinstance(audio, bytes | bytearray):
        return hashlib.sha256(audio).hexdigest()
    if audio is None:
        raise AudioDecodeError("the row has no recording")
    try:
        with open(audio, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise AudioDecodeError(f"{audio} cannot be read: {error}") from error


def _hash_rows(dataset: Dataset) -> tuple[dict[int, str], Reasons]:
    contents: dict[int, str] = {}
    reasons: Reasons = {}
    for row, audio in enumerate(dataset["audio"]):
        try:
            contents[row] = content_hash(audio)
        except AudioError as error:
            reasons[row] = (type(error).__name__, str(error))
    return contents, reasons


def _decoded_windows(
    dataset: Dataset,
    pending: Mapping[int, list[str]],
    copies: Sequence[Copy],
    processor: Any,
    known: set[str],
    items: Sequence[str],
    reasons: Reasons,
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Number of rows and samples by key; `reasons` gets the rows that cannot be read."""
    rate = int(processor.feature_extractor.sampling_rate)
    waves: dict[str, np.ndarray] = {}
    rows = samples = 0
    for row, (content, *copy_keys) in pending.items():
        rows += 1
        wanted = {content, *copy_keys} - known - waves.keys() - reasons.keys()
        if wanted:
            try:
                waveform = load_waveform(dataset[row]["audio"], target_rate=rate, name=items[row])
            except AudioError as error:
                reasons[row] = (type(error).__name__, str(error))
                wanted = set()
        if content in wanted:
            waves[content] = waveform
        for key, copy in zip(copy_keys, copies, strict=True):
            if key in wanted and len(waveform):
                waves[key] = copy.make(waveform, rate, content)
        samples += sum(len(waves[key]) for key in wanted if key in waves)
        if rows == _WINDOW_ROWS or samples >= _WINDOW_SAMPLES:
            yield rows, waves
            waves, rows, samples = {}, 0, 0
    if rows:
        yield rows, waves


def _assemble(
    dataset: Dataset,
    keys: dict[int, list[str]],
    store: UnitStore,
    items: Sequence[str],
    reasons: Reasons,
    num_encoded: int,
) -> ExtractedUnits:
    units = store.get(key for row_keys in keys.values() for key in row_keys)
    without = (row for row in range(len(dataset)) if row not in keys or keys[row][0] not in units)
    skips = [SkippedItem(items[row], *(reasons[row] if row in reasons else reasons[keys[row][0]])) for row in without]
    rows: list[tuple[int, str]] = []
    num_versions = max((len(row_keys) for row_keys in keys.values()), default=1)
    for version in range(num_versions):
        rows += [(row, row_keys[version]) for row, row_keys in keys.items() if row_keys[version] in units]
    if not rows:
        first = f", first {skips[0].item!r}: {skips[0].message}" if skips else ""
        raise DatasetError(f"not one of {len(dataset)} recordings can be used{first}")
    rest = dataset.remove_columns("audio") if len(dataset.column_names) > 1 else Dataset.from_dict({"item": items})
    result = rest.select([row for row, _ in rows])
    columns = {
        "units": ([units[key].units.tolist() for _, key in rows], List(Value("int32"))),
        "durations": ([units[key].durations.tolist() for _, key in rows], List(Value("int32"))),
        "content": ([key for _, key in rows], Value("string")),
    }
    codes = [units[key].prosody for _, key in rows]
    if all(row is not None for row in codes):
        columns["prosody"] = ([row.tolist() for row in codes if row is not None], List(Value("int32")))
    for name, (values, feature) in columns.items():
        result = result.add_column(name, values, feature=feature)
    return ExtractedUnits(result, tuple(skips), num_encoded)
