"""`load_text_splits`: recordings or units with what is said of them as a text, in three parts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset

from ..core.errors import DatasetError, LabelError
from .columns import known_columns, unify_with
from .loading import Splits, make_splits, one_part

__all__ = ["TextOfRow", "load_text_rows", "load_text_splits"]

TextOfRow = Callable[[Mapping[str, Any]], str | None]
"""The values of the text columns of a row → its text; `None` where it has none. `SequenceTask.text_of` is one."""


def load_text_splits(
    source: str | os.PathLike[str],
    *,
    text_column: str | Sequence[str] | None = None,
    speaker_column: str | None = None,
    text_of: TextOfRow | None = None,
    validation_fraction: float = 0.15,
    test_fraction: float = 0.2,
    seed: int = 0,
    config_name: str | None = None,
    revision: str | None = None,
) -> Splits:
    """Read a data set whose rows have a text, and make the parts that it lacks.

    Args:
        source (`str | PathLike`): see `load_splits`; a folder needs `metadata.csv` or `metadata.jsonl`.
        text_column (`str | Sequence[str]`, *optional*): column of the text, `text` by default; `text_of` may take
            several.
        speaker_column (`str`, *optional*): see `load_splits`.
        text_of (`Callable`, *optional*): makes the text of a row; by default it is the value of the one column.
        validation_fraction (`float`, defaults to 0.15): share of the training rows for validation, if it is missing.
        test_fraction (`float`, defaults to 0.2): share of the rows for the test, if it is missing.
        seed (`int`, defaults to 0): of the parts that are made.
        config_name (`str`, *optional*): configuration of a Hub data set.
        revision (`str`, *optional*): revision of a Hub data set.

    Returns:
        `Splits`: with the texts in `label`. Rows without a text are left out; a note says how many and which.

    Raises:
        DatasetError: nothing to read, an unknown column, a text that `text_of` refuses, or an empty part.
        UnitError: units that are neither integers nor text of integers.
    """
    columns, read = _columns(text_column), text_of or _plain(text_column)
    without: dict[str, list[str]] = {}

    def unify_part(table: Dataset, name: str, root: Path | None) -> Dataset:
        rows, without[name] = _with_texts(table, name, root, columns, speaker_column, read)
        return rows

    options = {
        "text_column": list(columns),
        "speaker_column": speaker_column,
        "validation_fraction": validation_fraction,
        "test_fraction": test_fraction,
        "seed": seed,
        "config_name": config_name,
        "revision": revision,
    }
    splits = make_splits(source, unify_part, options, strata=lambda rows: [""] * len(rows), measured="the result")
    notes = [
        f"{len(items)} row(s) of {name} have no text in {', '.join(columns)} and were left out: {_first(items)}"
        for name, items in without.items()
        if items
    ]
    return splits.with_notes(notes) if notes else splits


def load_text_rows(
    source: str | os.PathLike[str],
    *,
    split: str = "test",
    text_column: str | Sequence[str] | None = None,
    speaker_column: str | None = None,
    text_of: TextOfRow | None = None,
    config_name: str | None = None,
    revision: str | None = None,
) -> Dataset:
    """One part of such a data set, or all of a data set without parts; rows without a text are left out.

    Args:
        source (`str | PathLike`): as for `load_text_splits`.
        split (`str`, defaults to `"test"`): as for `load_rows`.
        text_column (`str | Sequence[str]`, *optional*): as for `load_text_splits`.
        speaker_column (`str`, *optional*): as for `load_text_splits`.
        text_of (`Callable`, *optional*): as for `load_text_splits`.
        config_name (`str`, *optional*): configuration of a Hub data set.
        revision (`str`, *optional*): revision of a Hub data set.

    Raises:
        DatasetError: as for `load_text_splits`, or there is no such part.
    """
    columns, read = _columns(text_column), text_of or _plain(text_column)
    return one_part(
        source,
        split,
        lambda table, name, root: _with_texts(table, name, root, columns, speaker_column, read)[0],
        config_name=config_name,
        revision=revision,
    )


def _columns(text_column: str | Sequence[str] | None) -> tuple[str, ...]:
    return (text_column,) if isinstance(text_column, str) else tuple(text_column or ("text",))


def _plain(text_column: str | Sequence[str] | None) -> TextOfRow:
    columns = _columns(text_column)
    if len(columns) != 1:
        raise DatasetError(
            f"the text has {len(columns)} columns: {', '.join(columns)}",
            hint="name one column, or pass text_of, such as a SequenceTask's",
        )
    return lambda row: None if row[columns[0]] in (None, "") else str(row[columns[0]])


def _with_texts(
    table: Dataset,
    name: str,
    root: Path | None,
    columns: Sequence[str],
    speaker_column: str | None,
    text_of: TextOfRow,
) -> tuple[Dataset, list[str]]:
    """Rows with their text as label, and the items that had none."""
    known_columns(table, columns, "the text", "text_column (--text-column)")

    def texts(items: Sequence[str]) -> list[str | None]:
        values = {column: _values(table, column) for column in columns}
        found: list[str | None] = []
        for number, item in enumerate(items):
            try:
                found.append(text_of({column: values[column][number] for column in columns}))
            except LabelError as error:
                raise DatasetError(f"{item} ({name}): {Exception.__str__(error)}", hint=error.hint) from error
        return found

    rows = unify_with(table, name, root, speaker_column, texts)
    kept = [number for number, text in enumerate(rows["label"]) if text is not None]
    if len(rows) and not kept:
        raise DatasetError(
            f"not one of {len(rows)} rows of {name} has a text in {', '.join(columns)}",
            hint="name another column with text_column (--text-column)",
        )
    if len(kept) == len(rows):
        return rows, []
    return rows.select(kept), [row["item"] for row in rows.select_columns(["item", "label"]) if row["label"] is None]


def _first(items: Sequence[str], number: int = 5) -> str:
    """The first of them, for a note."""
    return ", ".join(items[:number]) + (", …" if len(items) > number else "")


def _values(table: Dataset, column: str) -> list[Any]:
    feature = table.features[column]
    values = list(table[column])
    if isinstance(feature, ClassLabel):
        return [None if value is None else feature.int2str(int(value)) for value in values]
    return values
