"""`load_splits`: any labelled data set as train, validation and test with the same columns."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import Audio, ClassLabel, Dataset, Value

from ..core.errors import DatasetError
from .sources import read_source, rooted
from .splits import carve
from .unit_identity import merged_units, recorded_unit_fingerprint

__all__ = ["Splits", "load_rows", "load_splits"]

_SPEAKER_COLUMNS = ("speaker", "speaker_id")
_ITEM_COLUMNS = ("item", "path", "id", "file_name", "file")


@dataclass(frozen=True)
class Splits:
    """Three parts of a data set.

    Every part has the columns `audio` (bytes, a path or `{"bytes", "path"}`, undecoded) or `units` (list of int),
    `label` (str), `speaker` (str or null) and `item` (str, what errors call the row).

    Attributes:
        train (`Dataset`): for training.
        validation (`Dataset`): for choosing the epoch.
        test (`Dataset`): looked at once.
        speakers_apart (`bool | None`): whether the parts share no speaker; `None` where speakers are unknown.
        notes (`tuple[str, ...]`): what a reader of the result should know: how missing parts were made.
        unit_fingerprint (`dict | None`): of the encoder that made the units, where `units.json` beside them says it.
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    speakers_apart: bool | None = None
    notes: tuple[str, ...] = ()
    unit_fingerprint: dict[str, Any] | None = None

    @property
    def kind(self) -> Literal["audio", "units"]:
        """What the rows hold."""
        return "units" if "units" in self.train.column_names else "audio"

    @property
    def labels(self) -> tuple[str, ...]:
        """The distinct labels of the training part, sorted."""
        return tuple(sorted(set(self.train["label"])))

    def items(self) -> Iterator[tuple[str, Dataset]]:
        """Name and rows of each part."""
        yield "train", self.train
        yield "validation", self.validation
        yield "test", self.test

    def map_parts(self, function: Callable[[str, Dataset], Dataset]) -> Splits:
        """The same splits with every part replaced by `function(name, part)`."""
        parts = {name: function(name, part) for name, part in self.items()}
        return replace(self, **parts)


def load_splits(
    source: str | os.PathLike[str],
    *,
    label_column: str | Sequence[str] | None = None,
    speaker_column: str | None = None,
    validation_fraction: float = 0.15,
    test_fraction: float = 0.2,
    seed: int = 0,
    config_name: str | None = None,
    revision: str | None = None,
) -> Splits:
    """Read a labelled data set and make the parts that it lacks.

    Args:
        source (`str | PathLike`): a folder with one sub-folder of recordings a label, optionally under `train/`,
            `validation/`, `test/`; a folder with `metadata.csv` or `metadata.jsonl` (`file_name`, label, optionally
            speaker and split); Parquet of audio (bytes or `Audio`) or of units (column `units`: lists of integers or
            text such as "71 12 56", merged or one a frame); or a Hub id.
        label_column (`str | Sequence[str]`, *optional*): column of the label, `label` by default; the values of
            several columns are joined by a blank.
        speaker_column (`str`, *optional*): column of the speaker; by default `speaker` or `speaker_id` if there is
            one; `""` ignores it. With speakers the parts that are made share none.
        validation_fraction (`float`, defaults to 0.15): share of the training rows for validation, if it is missing.
        test_fraction (`float`, defaults to 0.2): share of the rows for the test, if it is missing.
        seed (`int`, defaults to 0): of the parts that are made.
        config_name (`str`, *optional*): configuration of a Hub data set.
        revision (`str`, *optional*): revision of a Hub data set.

    Returns:
        `Splits`: neither part empty, every label of validation and test known in training.

    Raises:
        DatasetError: nothing to read, an unknown column, a row without label, one label only, an empty part, or a
            label that training lacks.
        UnitError: units that are neither integers nor text of integers.
    """
    tables, root, left_out = read_source(source, config_name=config_name, revision=revision)
    parts = {name: _unify(table, name, root, label_column, speaker_column) for name, table in tables.items()}
    notes = list(left_out)
    if "train" not in parts and len(parts) > 1:
        raise DatasetError(
            f"{os.fspath(source)!r} has the parts {', '.join(parts)} and none to train on", hint="add a part train"
        )
    if "train" not in parts:
        (name,) = parts
        parts = {"train": parts[name]}
        if name != "pool":
            notes.append(f"the data set has the part {name} alone: training and validation rows are taken from it too")
    for name, part in parts.items():
        if not len(part):
            raise DatasetError(f"the {name} part of {os.fspath(source)!r} is empty")
    if len(set(parts["train"]["label"])) < 2:
        raise DatasetError(
            f"all {len(parts['train'])} training rows have the one label {parts['train'][0]['label']!r}",
            hint="a classifier needs at least two labels",
        )
    # Test first: validation is then taken from what trains.
    carved = {"test", "validation"} - parts.keys()
    for name, fraction, offset in (("test", test_fraction, 0), ("validation", validation_fraction, 1)):
        if name in carved:
            parts["train"], parts[name] = _carve_part(parts["train"], name, fraction, seed + offset, notes)
    _check_labels(parts)
    apart = _speakers_apart(parts)
    if apart is False and not carved:
        notes.append("speakers occur in more than one of the given parts: accuracy on new speakers may be lower")
    has_units = "units" in parts["train"].column_names
    fingerprint = recorded_unit_fingerprint(source) if has_units else None
    return Splits(**parts, speakers_apart=apart, notes=tuple(notes), unit_fingerprint=fingerprint)


def load_rows(
    source: str | os.PathLike[str],
    *,
    split: str = "test",
    label_column: str | Sequence[str] | None = None,
    speaker_column: str | None = None,
    config_name: str | None = None,
    revision: str | None = None,
) -> Dataset:
    """One part of a labelled data set, or all of a data set without parts, with the columns of `Splits`.

    Args:
        source (`str | PathLike`): as for `load_splits`.
        split (`str`, defaults to `"test"`): the wanted part; `"train"` and `"test"` of a data set without parts are
            all of it.
        label_column (`str | Sequence[str]`, *optional*): as for `load_splits`.
        speaker_column (`str`, *optional*): as for `load_splits`.
        config_name (`str`, *optional*): configuration of a Hub data set.
        revision (`str`, *optional*): revision of a Hub data set.

    Raises:
        DatasetError: as for `load_splits`, or there is no such part.
    """
    tables, root, _ = read_source(source, config_name=config_name, revision=revision)
    if "pool" not in tables and split not in tables:
        raise DatasetError(f"{os.fspath(source)!r} has no part {split!r}", hint=f"it has {', '.join(tables)}")
    if "pool" in tables and split not in (*tables, "train", "test"):
        raise DatasetError(
            f"{os.fspath(source)!r} has no part {split!r}", hint="it has no parts: leave the part out, or make folders"
        )
    name = split if split in tables else "pool"
    rows = _unify(tables[name], name, root, label_column, speaker_column)
    if not len(rows):
        raise DatasetError(f"the {name} part of {os.fspath(source)!r} is empty")
    return rows


def _unify(
    table: Dataset,
    name: str,
    root: Path | None,
    label_column: str | Sequence[str] | None,
    speaker_column: str | None,
) -> Dataset:
    """Bring one table to the columns of `Splits`."""
    columns = table.column_names
    label_columns = _label_columns(columns, label_column)
    content = "units" if "units" in columns else "audio"
    if content not in columns:
        raise DatasetError(f"there is neither a column 'audio' nor 'units': {columns}", hint="rename one of them")
    items = _item_names(table, name)
    labels = _label_texts(table, label_columns, items)
    speakers = _speaker_names(table, speaker_column)
    unified = rooted(table.select_columns([content]), root)
    if content == "units":
        unified = merged_units(unified, items)
    feature = unified.features[content]
    if isinstance(feature, Audio):
        unified = unified.cast_column(content, Audio(decode=False))
    for key, values in (("label", labels), ("speaker", speakers), ("item", items)):
        unified = unified.add_column(key, np.asarray(values, dtype=object), feature=Value("string"))
    return unified


def _label_columns(columns: Sequence[str], label_column: str | Sequence[str] | None) -> tuple[str, ...]:
    wanted = (label_column,) if isinstance(label_column, str) else tuple(label_column or ("label",))
    unknown = [column for column in wanted if column not in columns]
    if unknown:
        raise DatasetError(
            f"there is no column {unknown[0]!r}; the columns are {', '.join(columns)}",
            hint="name the column of labels with label_column (--label-column)",
        )
    return wanted


def _item_names(table: Dataset, name: str) -> list[str]:
    column = next((column for column in _ITEM_COLUMNS if column in table.column_names), None)
    if column is not None:
        return [str(value) for value in table[column]]
    feature = table.features.get("audio")
    if isinstance(feature, Audio) or (isinstance(feature, dict) and "path" in feature):
        # As Arrow, so that the bytes beside the paths are not copied.
        batches = table.select_columns("audio").with_format("arrow").iter(1000)
        paths = [path for batch in batches for path in batch["audio"].combine_chunks().field("path").to_pylist()]
        return [str(path) if path else f"{name} row {row}" for row, path in enumerate(paths)]
    return [f"{name} row {row}" for row in range(len(table))]


def _label_texts(table: Dataset, columns: Sequence[str], items: Sequence[str]) -> list[str]:
    texts: list[list[str]] = []
    for column in columns:
        feature = table.features[column]
        values: list[Any] = list(table[column])
        missing = [item for item, value in zip(items, values, strict=True) if value is None or value == ""]
        if missing:
            raise DatasetError(
                f"{len(missing)} row(s) have no label in column {column!r}, first {missing[0]!r}",
                hint="fill the labels in or leave these rows out",
            )
        if isinstance(feature, ClassLabel):
            values = [feature.int2str(int(value)) for value in values]
        texts.append([str(value) for value in values])
    return [" ".join(parts) for parts in zip(*texts, strict=True)]


def _speaker_names(table: Dataset, column: str | None) -> list[str | None]:
    if column is None:
        column = next((name for name in _SPEAKER_COLUMNS if name in table.column_names), "")
    if not column:
        return [None] * len(table)
    if column not in table.column_names:
        raise DatasetError(
            f"there is no column {column!r}; the columns are {', '.join(table.column_names)}",
            hint="name the column of speakers with speaker_column (--speaker-column)",
        )
    return [None if value in (None, "") else str(value) for value in table[column]]


def _carve_part(train: Dataset, name: str, fraction: float, seed: int, notes: list[str]) -> tuple[Dataset, Dataset]:
    speakers = train["speaker"]
    carved = carve(list(train["label"]), list(speakers), fraction, seed)
    if carved.speakers_apart:
        notes.append(f"{name} was taken from the training rows by seed {seed}: speakers that training does not have")
    else:
        why = "there is one speaker" if len({*speakers}) == 1 and None not in {*speakers} else "speakers are unknown"
        notes.append(
            f"{name} was taken at random from the training rows by seed {seed} because {why}: "
            "the same speakers may be on both sides, so accuracy on new speakers may be lower"
        )
    return train.select(carved.rest), train.select(carved.part)


def _check_labels(parts: dict[str, Dataset]) -> None:
    known = set(parts["train"]["label"])
    for name in ("validation", "test"):
        unseen = sorted(set(parts[name]["label"]) - known)
        if unseen:
            raise DatasetError(
                f"label(s) {', '.join(map(repr, unseen[:5]))} of the {name} part do not occur in training",
                hint="every label needs training rows",
            )


def _speakers_apart(parts: dict[str, Dataset]) -> bool | None:
    speakers = [set(part["speaker"]) for part in parts.values()]
    if any(None in names for names in speakers):
        return None
    return sum(map(len, speakers)) == len(set().union(*speakers))
