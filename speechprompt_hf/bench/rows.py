"""A declared data set to rows with the columns of `Splits`, the part, and what its protocol needs."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, List, Value, concatenate_datasets
from numpy.typing import NDArray

from ..core.audio_io import load_waveform
from ..core.errors import AudioError, DatasetError
from ..core.extras import require
from ..data.columns import unify
from ..data.sources import read_source
from .datasets import PARTS, AddedRows, DatasetSpec, Synthetic

__all__ = ["RATE", "read_rows", "synthetic_rows"]

RATE = 16_000
"""Samples a second of recordings that are cut or padded."""


def read_rows(spec: DatasetSpec, data_root: Path | None) -> Dataset:
    """All rows of a data set.

    Args:
        spec (`DatasetSpec`): what to read.
        data_root (`Path`, *optional*): the folder that holds data sets; made-up rows need none.

    Returns:
        `Dataset`: `audio` (bytes) or `units`, `label`, `speaker` (or null), `item`, `part` (`"train"`, `"validation"`
        or `"test"`) and the columns of the protocol, as text.

    Raises:
        DatasetError: it cannot be read, or a column is missing.
    """
    if spec.synthetic is not None:
        return synthetic_rows(spec.synthetic)
    if data_root is None or not spec.is_there(data_root):
        raise DatasetError(f"the data set {spec.name} is not there", hint=f"it is read from {spec.folder}")
    folder = spec.path(data_root)
    assert folder is not None
    tables, root, _ = read_source(folder)
    parts = []
    for part in sorted(tables, key=("pool", *PARTS).index):
        table = tables[part]
        rows = _unified(table, part, root, spec)
        for column in spec.protocol.columns:
            if column not in table.column_names:
                raise DatasetError(
                    f"the {part} part of {spec.name} has no column {column!r}",
                    hint=f"its protocol needs it; the columns are {', '.join(table.column_names)}",
                )
            rows = _with_text(rows, column, list(table[column]))
        # A table without parts, or with a test alone, is shared out by its protocol.
        rows = _with_text(rows, "part", ["train" if part == "pool" else part] * len(rows))
        parts.append(_distinct(rows) if part in spec.distinct else rows)
    for added in spec.add:
        parts.append(_added_rows(folder, added, spec).select_columns(parts[0].column_names))
    features = parts[0].features
    rows = concatenate_datasets([part if part.features == features else part.cast(features) for part in parts])
    if spec.seconds is not None:
        rows = _of_length(rows, spec.seconds, spec.name)
    return rows


def _unified(table: Dataset, part: str, root: Path | None, spec: DatasetSpec) -> Dataset:
    """`unify` with one label for all rows, or one for those that have none."""
    label: Any = list(spec.label)
    if spec.label_value is not None:
        table, label = _with_text(table, "_label", [spec.label_value] * len(table)), "_label"
    elif spec.missing_label is not None:
        for column in spec.label:
            if column in table.column_names:
                filled = [spec.missing_label if value is None else value for value in table[column]]
                table = _with_text(table.remove_columns(column), column, filled)
    return unify(table, part, root, label, spec.speaker)


def _with_text(rows: Dataset, name: str, values: list[Any]) -> Dataset:
    texts = [None if value is None else str(value) for value in values]
    if name in rows.column_names:
        rows = rows.remove_columns(name)
    return rows.add_column(name, np.asarray(texts, dtype=object), feature=Value("string"))


def _added_rows(folder: Path, added: AddedRows, spec: DatasetSpec) -> Dataset:
    tables, root, _ = read_source(folder / added.file)
    tables = {name: _with_text(table, "_label", [added.label] * len(table)) for name, table in tables.items()}
    rows = concatenate_datasets([unify(table, name, root, "_label", "") for name, table in tables.items()])
    if added.min_peak > 0:
        loud = [row for row, wave in enumerate(_waves(rows)) if wave is None or _peak(wave) >= added.min_peak]
        rows = rows.select(loud)
    rows = _with_text(rows, "part", ["train"] * len(rows))
    for column in spec.protocol.columns:
        rows = _with_text(rows, column, [None] * len(rows))
    return rows


def _distinct(rows: Dataset) -> Dataset:
    """The first of rows that hold the same units (or recording) and label."""
    content = "units" if "units" in rows.column_names else "audio"
    first: dict[tuple[Any, ...], int] = {}
    for index, (held, label) in enumerate(zip(rows[content], rows["label"], strict=True)):
        key = tuple(held) if isinstance(held, list) else held
        first.setdefault((key, label), index)
    return rows.select(sorted(first.values()))


def _of_length(rows: Dataset, seconds: float, name: str) -> Dataset:
    """Recordings cut or padded with zeros to one length, as float WAV in memory."""
    if "audio" not in rows.column_names:
        raise DatasetError(f"the data set {name} holds units, which have no seconds", hint="leave seconds out")
    soundfile = require("soundfile")
    length = round(seconds * RATE)
    cut = []
    for audio, wave in zip(rows["audio"], _waves(rows), strict=True):
        if wave is None:
            cut.append(audio)
            continue
        stream = io.BytesIO()
        wave = np.pad(wave[:length], (0, max(length - len(wave), 0)))
        soundfile.write(stream, wave, RATE, format="WAV", subtype="FLOAT")
        cut.append(stream.getvalue())
    rest = rows.remove_columns("audio")
    return rest.add_column("audio", np.asarray(cut, dtype=object), feature=Value("binary"))


def _waves(rows: Dataset) -> Iterator[NDArray[np.float32] | None]:
    """The samples of each row; `None` for a recording that cannot be read, which making units will list."""
    for audio, item in zip(rows["audio"], rows["item"], strict=True):
        try:
            yield load_waveform(audio, target_rate=RATE, name=item)
        except AudioError:
            yield None


def _peak(wave: NDArray[np.float32]) -> float:
    return float(np.abs(wave).max(initial=0))


def synthetic_rows(spec: Synthetic) -> Dataset:
    """Made-up utterances of 8 to 20 units, without equal neighbours.

    Args:
        spec (`Synthetic`): sizes and seed.

    Returns:
        `Dataset`: as `read_rows` gives; every fifth row is `"test"`, every tenth `"validation"`.
    """
    generator = np.random.default_rng(spec.seed)
    pairs = generator.permutation(spec.units)[: 2 * spec.labels].reshape(spec.labels, 2)
    units, labels, speakers, parts = [], [], [], []
    for number in range(spec.rows):
        label = number % spec.labels
        row = generator.integers(0, spec.units, int(generator.integers(8, 21)))
        for start in generator.integers(0, len(row) - 1, 2):
            row[start : start + 2] = pairs[label]
        units.append([int(unit) for index, unit in enumerate(row) if index == 0 or unit != row[index - 1]])
        labels.append(f"label {label}")
        # Every speaker says every label.
        speaker = number // spec.labels % spec.speakers
        speakers.append(f"speaker {speaker}")
        parts.append({0: "test", 1: "validation"}.get(speaker % 5, "train"))
    columns = {"units": units, "label": labels, "speaker": speakers, "part": parts}
    rows = Dataset.from_dict({**columns, "item": [f"utterance {number}" for number in range(spec.rows)]})
    return rows.cast_column("units", List(Value("int32")))
