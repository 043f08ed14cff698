"""Rows of recordings to rows of units, window by window: the memory does not grow with the corpus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Features, List, Value

from ..core.audio_io import load_waveform
from ..core.errors import AudioError
from ..core.units import UnitSequence
from .corpus_files import PROSODY_COLUMN
from .extraction import SkippedItem, content_hash
from .unit_batches import batches_by_length, encode_batch

__all__ = ["EncodedRows", "encode_rows", "unit_features"]

# Recordings and samples (17 min at 16 kHz) decoded before they are sorted by length and batched.
_WINDOW_ROWS = 256
_WINDOW_SAMPLES = 16_000_000


@dataclass
class EncodedRows:
    """Units of a run of rows.

    Attributes:
        rows (`list[dict]`): the rows that have units, in order, without `audio` and with `units`, `durations`,
            `content`, and with a second stream `prosody`.
        skips (`list[SkippedItem]`): the rows left out.
        seconds (`float`): of sound in `rows`.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    skips: list[SkippedItem] = field(default_factory=list)
    seconds: float = 0.0

    def table(self, features: Features) -> pa.Table:
        """The rows as `datasets` writes them.

        Args:
            features (`Features`): `unit_features` of the corpus.
        """
        columns = {name: [row[name] for row in self.rows] for name in features}
        return pa.Table.from_pydict(features.encode_batch(columns), schema=features.arrow_schema)


def unit_features(features: Mapping[str, Any], *, with_prosody: bool = False) -> Features:
    """The columns of units of a corpus: those of the corpus without `audio`, and what `extract_units` adds.

    Args:
        features (`Mapping[str, Any]`): of the corpus, by column.
        with_prosody (`bool`, defaults to `False`): whether the processor makes a second stream beside the units.
    """
    kept = {name: feature for name, feature in features.items() if name != "audio"}
    lists = {"units": List(Value("int32")), "durations": List(Value("int32"))}
    columns = {**(kept or {"item": Value("string")}), **lists, "content": Value("string")}
    return Features({**columns, PROSODY_COLUMN: List(Value("int32"))} if with_prosody else columns)


def encode_rows(
    rows: Iterable[Mapping[str, Any]],
    processor: Any,
    on_progress: Callable[[int, float], None] | None = None,
) -> EncodedRows:
    """Units of every row that has a usable recording; the others are listed.

    Units, rows and messages are those of `extract_units`; nothing is read from or written to its cache, so that equal
    rows are encoded in equal batches whatever happened before.

    Args:
        rows (`Iterable[Mapping]`): with `audio` (bytes, a path or `{"bytes", "path"}`, undecoded) and `item`.
        processor (`SpeechUnitProcessor`): makes the units.
        on_progress (`Callable[[int, float], None]`, *optional*): called with the rows and seconds encoded since its
            last call.

    Returns:
        `EncodedRows`.
    """
    rate = int(processor.feature_extractor.sampling_rate)
    result = EncodedRows()
    for window in _windows(rows, rate):
        units: dict[str, UnitSequence] = {}
        reasons: dict[str, tuple[str, str]] = {}
        waves = {row.content: row.wave for row in window if row.wave is not None}
        for batch in batches_by_length(waves):
            made, failed = encode_batch({key: waves[key] for key in batch}, processor, rate)
            units |= made
            reasons |= failed
            if on_progress is not None:
                on_progress(len(made), sum(len(waves[key]) for key in made) / rate)
        for row in window:
            if row.wave is None or row.content not in units:
                result.skips.append(SkippedItem(row.item, *(row.reason or reasons[row.content])))
                continue
            sequence = units[row.content]
            made_of = {"units": sequence.units.tolist(), "durations": sequence.durations.tolist()}
            if sequence.prosody is not None:
                made_of[PROSODY_COLUMN] = sequence.prosody.tolist()
            result.rows.append({**row.rest, **made_of, "content": row.content})
            result.seconds += len(row.wave) / rate
    return result


@dataclass(frozen=True)
class _Row:
    item: str
    rest: Mapping[str, Any]
    content: str = ""
    wave: np.ndarray | None = None
    reason: tuple[str, str] | None = None


def _read(row: Mapping[str, Any], rate: int) -> _Row:
    item, rest = str(row["item"]), {name: value for name, value in row.items() if name != "audio"}
    try:
        content = content_hash(row["audio"])
        return _Row(item, rest, content, load_waveform(row["audio"], target_rate=rate, name=item))
    except AudioError as error:
        return _Row(item, rest, reason=(type(error).__name__, str(error)))


def _windows(rows: Iterable[Mapping[str, Any]], rate: int) -> Iterator[list[_Row]]:
    window: list[_Row] = []
    samples = 0
    for row in rows:
        window.append(_read(row, rate))
        samples += len(window[-1].wave) if window[-1].wave is not None else 0
        if len(window) == _WINDOW_ROWS or samples >= _WINDOW_SAMPLES:
            yield window
            window, samples = [], 0
    if window:
        yield window
