"""Files with rows of units, labelled or not: Parquet, JSON lines and CSV, read row by row as they are."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow.parquet import ParquetFile

from ..core.errors import DatasetError
from .columns import ITEM_COLUMNS

__all__ = ["UNIT_TABLE_SUFFIXES", "UnitRow", "read_unit_table"]

UNIT_TABLE_SUFFIXES = (".parquet", ".jsonl", ".csv")
"""File name endings of tables of units."""

_UNITS = "units"


class UnitRow(NamedTuple):
    """One row of a table of units.

    Attributes:
        number (`int`): counted from 0.
        item (`str | None`): its name, where a column of the table has one.
        units (`Any`): what the column `units` holds; not checked.
    """

    number: int
    item: str | None
    units: Any


def read_unit_table(path: str | os.PathLike[str]) -> list[UnitRow]:
    """The rows of a file with a column `units`, as `speechprompt units` writes it and `load_splits` reads it.

    Args:
        path (`str | PathLike`): a .parquet, .jsonl or .csv file.

    Returns:
        `list[UnitRow]`: in order, not empty.

    Raises:
        DatasetError: there is no such file, it cannot be read, it has no row, or it has no column `units`.
    """
    place = Path(path)
    if not place.is_file():
        raise DatasetError(f"there is no file {place}", hint="check the spelling")
    if place.suffix not in UNIT_TABLE_SUFFIXES:
        raise DatasetError(f"{place} is no table of units", hint=f"read are {', '.join(UNIT_TABLE_SUFFIXES)}")
    try:
        columns, rows = _parquet(place) if place.suffix == ".parquet" else _text(place)
    except (pa.ArrowException, csv.Error, ValueError, OSError) as error:
        raise DatasetError(f"{place} cannot be read: {error}"[:300], hint="copy or write it again") from error
    if _UNITS not in columns:
        raise DatasetError(
            f"{place} has no column {_UNITS!r}; its columns are {', '.join(map(str, columns))}"[:300],
            hint="recordings in tables become units by speechprompt units, and are measured by speechprompt evaluate",
        )
    if not rows:
        raise DatasetError(f"{place} has no rows", hint="nothing can be said of it")
    name = next((column for column in ITEM_COLUMNS if column in columns), None)
    return [
        UnitRow(number, None if name is None or row.get(name) is None else str(row[name]), row.get(_UNITS))
        for number, row in enumerate(rows)
    ]


def _parquet(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    with ParquetFile(path) as file:
        columns = list(file.schema_arrow.names)
        wanted = [name for name in (_UNITS, *ITEM_COLUMNS) if name in columns]
        return columns, file.read(columns=wanted).to_pylist() if _UNITS in wanted else []


def _text(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        if path.suffix == ".csv":
            reader = csv.DictReader(stream)
            return list(reader.fieldnames or ()), list(reader)
        rows = list(_json_lines(stream, path))
    # A row may lack what others have.
    return list(dict.fromkeys(name for row in rows for name in row)), rows


def _json_lines(stream: Any, path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DatasetError(
                f"line {number} of {path} is no JSON: {error}"[:300], hint="one JSON object a line"
            ) from error
        if not isinstance(row, dict):
            raise DatasetError(f"line {number} of {path} is no JSON object", hint="one JSON object a line")
        yield row
