"""Which encoder made the units of a data set, and units in the form that language models take."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, List, Value

from ..core.errors import DatasetError, FingerprintMismatchError, UnitError
from ..core.files import read_json
from ..core.units import merge_runs

__all__ = [
    "UNITS_SUMMARY",
    "check_is_complete",
    "check_unit_identity",
    "merged_durations",
    "merged_row",
    "merged_units",
    "recorded_unit_fingerprint",
]

_DURATIONS_HINT = "give whole numbers of frames, one a unit, or leave the column durations out"

UNITS_SUMMARY = "units.json"
"""What `speechprompt units` writes beside its Parquet files: what made the units."""


def recorded_unit_fingerprint(source: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The fingerprint in the `units.json` of a data set, or `None` where there is none.

    Args:
        source (`str | PathLike`): folder, or a file inside it.

    Raises:
        DatasetError: the corpus run that makes these units has not finished.
    """
    check_is_complete(source)
    fingerprint = _summary(source).get("fingerprint")
    return fingerprint if isinstance(fingerprint, dict) and "digest" in fingerprint else None


def check_is_complete(source: str | os.PathLike[str]) -> None:
    """Refuse a corpus of which `speechprompt units` has made only some of the shards.

    Args:
        source (`str | PathLike`): folder, or a file inside it; others pass.

    Raises:
        DatasetError: its `units.json` says that it is not complete.
    """
    if _summary(source).get("complete") is False:
        raise DatasetError(
            f"{str(source)!r} holds a part of the shards of a corpus: speechprompt units has not finished",
            hint="start that command again: it makes what is missing",
        )


def _summary(source: str | os.PathLike[str]) -> dict[str, Any]:
    path = Path(source).expanduser()
    summary = (path if path.is_dir() else path.parent) / UNITS_SUMMARY
    if not path.exists() or not summary.is_file():
        return {}
    values = read_json(summary)
    return values if isinstance(values, dict) else {}


def check_unit_identity(made_by: Mapping[str, Any] | None, wanted: Mapping[str, Any] | None, data: str) -> None:
    """Refuse units of another encoder than the one that a language model was trained on.

    Args:
        made_by (`Mapping`, *optional*): fingerprint of what made the units; nothing is checked without it.
        wanted (`Mapping`, *optional*): fingerprint of the language model's units; nothing is checked without it.
        data (`str`): how the error calls the data set.

    Raises:
        FingerprintMismatchError: the digests differ.
    """
    if made_by and wanted and made_by.get("digest") != wanted.get("digest"):
        raise FingerprintMismatchError(
            f"the units of {data} were made by {_describe(made_by)}, the language model was trained on those of "
            f"{_describe(wanted)}",
            hint="make the units again with this base: speechprompt units --base …",
        )


def _describe(fingerprint: Mapping[str, Any]) -> str:
    return f"{fingerprint.get('encoder_id', 'an encoder')} ({str(fingerprint.get('digest'))[:16]})"


def merged_units(table: Dataset, items: Sequence[str]) -> Dataset:
    """The one column `units` as lists of integers without equal neighbours.

    Args:
        table (`Dataset`): with that column alone: rows of lists of integers, one unit a frame or merged, or of text
            such as `"71 12 56"`.
        items (`Sequence[str]`): how errors call the rows.

    Raises:
        UnitError: a row is neither.
    """
    changed = False
    rows = []
    for item, units in zip(items, table["units"], strict=True):
        row = merged_row(units, item)
        changed = changed or row is not units
        rows.append(row)
    if not changed:
        return table
    return Dataset.from_dict({"units": rows}, features=Features({"units": List(Value("int32"))}))


def merged_row(units: Any, item: str) -> list[int]:
    """The units of one row as integers without equal neighbours; the list itself where it has none.

    Args:
        units (`Any`): a list of integers, one unit a frame or merged, or text such as `"71 12 56"`.
        item (`str`): how errors call the row.

    Raises:
        UnitError: it is neither.
    """
    row = _unit_list(units, item)
    if any(left == right for left, right in pairwise(row)):
        return [int(unit) for unit in merge_runs(row)[0]]
    return row


def merged_durations(durations: Any, units: Any, item: str) -> list[int]:
    """Durations of the merged units of a row; those of equal neighbours are added.

    Args:
        durations (`Any`): a list of whole numbers of frames, one a unit, of the units as they are or merged.
        units (`Any`): the row's units, see `merged_row`.
        item (`str`): how errors call the row.

    Raises:
        UnitError: there are more durations, or fewer, or they are none.
    """
    row = _unit_list(units, item)
    merged, runs = merge_runs(row)
    number = len(durations) if isinstance(durations, list) else None
    if number not in (len(row), len(merged)):
        found = "no durations" if number is None else f"{number} durations"
        raise UnitError(f"{item} has {found} for {len(row)} units", hint=_DURATIONS_HINT)
    wrong = [each for each in durations if type(each) is not int or each < 0]
    if wrong:
        raise UnitError(f"{item} has a duration of {wrong[0]!r:.60}", hint=_DURATIONS_HINT)
    if number == len(merged):
        return durations
    ends = runs.cumsum().tolist()
    return [sum(durations[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def _unit_list(units: Any, item: str) -> list[int]:
    if isinstance(units, str):
        units = units.split()
        if not all(unit.isascii() and unit.isdecimal() for unit in units):
            raise UnitError(f"the units of {item} are no numbers: {units[:5]}", hint='write them as "71 12 56"')
        return [int(unit) for unit in units]
    if not isinstance(units, list) or not all(isinstance(unit, int) for unit in units):
        raise UnitError(f"the units of {item} are {units!r:.60}", hint='give lists of integers, or text as "71 12 56"')
    return units
