"""Tables of any columns to the ones of `Splits`: audio or units, label, speaker, item."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Audio, ClassLabel, Dataset, Value

from ..core.errors import DatasetError
from .sources import rooted
from .unit_identity import merged_units

__all__ = ["ITEM_COLUMNS", "known_columns", "unify", "unify_with"]

_SPEAKER_COLUMNS = ("speaker", "speaker_id")
ITEM_COLUMNS = ("item", "path", "id", "file_name", "file")
"""Columns that name a row, the first that is there."""


def unify(
    table: Dataset,
    name: str,
    root: Path | None,
    label_column: str | Sequence[str] | None,
    speaker_column: str | None,
) -> Dataset:
    """Bring one table to the columns of `Splits`.

    Args:
        table (`Dataset`): R rows as they were read.
        name (`str`): of the part; rows without another name are called by it.
        root (`Path`, *optional*): where relative paths start.
        label_column (`str | Sequence[str]`, *optional*): see `load_splits`.
        speaker_column (`str`, *optional*): see `load_splits`.

    Returns:
        `Dataset`: R rows with `audio` or `units`, `label`, `speaker` and `item`.

    Raises:
        DatasetError: an unknown column, or a row without label.
        UnitError: units that are neither integers nor text of integers.
    """
    wanted = (label_column,) if isinstance(label_column, str) else tuple(label_column or ("label",))
    known_columns(table, wanted, "labels", "label_column (--label-column)")
    return unify_with(table, name, root, speaker_column, lambda items: _label_texts(table, wanted, items))


def unify_with(
    table: Dataset,
    name: str,
    root: Path | None,
    speaker_column: str | None,
    labels_of: Callable[[Sequence[str]], Sequence[str | None]],
) -> Dataset:
    """The same with labels that a function makes.

    Args:
        table (`Dataset`): R rows as they were read.
        name (`str`): of the part.
        root (`Path`, *optional*): where relative paths start.
        speaker_column (`str`, *optional*): see `load_splits`.
        labels_of (`Callable`): names of the R rows → R labels.

    Returns:
        `Dataset`: as `unify`.

    Raises:
        DatasetError: an unknown column, or what `labels_of` raises.
        UnitError: units that are neither integers nor text of integers.
    """
    columns = table.column_names
    content = "units" if "units" in columns else "audio"
    if content not in columns:
        raise DatasetError(f"there is neither a column 'audio' nor 'units': {columns}", hint="rename one of them")
    items = _item_names(table, name)
    labels = labels_of(items)
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


def known_columns(table: Dataset, wanted: Sequence[str], what: str, option: str) -> None:
    """Refuse columns that a table lacks.

    Args:
        table (`Dataset`): the table.
        wanted (`Sequence[str]`): names of columns.
        what (`str`): what they hold.
        option (`str`): what names them.

    Raises:
        DatasetError: one is not there.
    """
    unknown = [column for column in wanted if column not in table.column_names]
    if unknown:
        raise DatasetError(
            f"there is no column {unknown[0]!r}; the columns are {', '.join(table.column_names)}",
            hint=f"name the column of {what} with {option}",
        )


def _item_names(table: Dataset, name: str) -> list[str]:
    column = next((column for column in ITEM_COLUMNS if column in table.column_names), None)
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
