"""Which rows an adapter has seen in its training, kept beside it, so that no evaluation takes them for new ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset

from ..core.errors import ConfigurationError
from ..core.files import read_json, write_json
from .loading import Splits

__all__ = ["TRAINED_ROWS_FILE", "KnownRows", "known_rows", "read_trained_rows", "row_digests", "write_trained_rows"]

TRAINED_ROWS_FILE = "trained_rows.json"
"""Lies beside report.json. It holds short digests, no recordings and no units."""

# 48 bits: among 100,000 rows of training and of test each, one false match in 30,000 evaluations.
_DIGITS = 12

# By what rows are told apart, the surest first: different recordings may have the same units.
_COLUMNS = {"content": "recordings", "units": "units"}


class KnownRows(NamedTuple):
    """Rows that an adapter has seen.

    Attributes:
        part (`str`): `"train"` or `"validation"`, the part that they were in.
        number (`int`): how many of them.
        what (`str`): what they have in common with that part: `"recordings"` or `"units"`.
    """

    part: str
    number: int
    what: str


def row_digests(rows: Dataset) -> dict[str, list[str]]:
    """What each row holds, without label and speaker, as 12 hexadecimal digits.

    Args:
        rows (`Dataset`): R rows with `units`, and `content`, the hash of the recording, where there were recordings.

    Returns:
        `dict[str, list[str]]`: by column, `content` and `units`, R digests each.
    """
    return {
        column: [hashlib.sha256(json.dumps(value).encode()).hexdigest()[:_DIGITS] for value in rows[column]]
        for column in _COLUMNS
        if column in rows.column_names
    }


def write_trained_rows(path: str | Path, splits: Splits) -> None:
    """Write the digests of the rows that trained and of those that chose the epoch.

    Args:
        path (`str | Path`): the file.
        splits (`Splits`): rows with units.
    """
    parts = {"train": row_digests(splits.train), "validation": row_digests(splits.validation)}
    write_json(
        path,
        {
            name: {column: "".join(sorted(set(digests))) for column, digests in part.items()}
            for name, part in parts.items()
        },
    )


def read_trained_rows(path: str | Path) -> dict[str, dict[str, frozenset[str]]]:
    """Read what `write_trained_rows` wrote.

    Args:
        path (`str | Path`): the file; those of earlier versions hold one kind of digests and do not say which.

    Returns:
        `dict[str, dict[str, frozenset[str]]]`: part → column (`content`, `units`) → digests.

    Raises:
        ConfigurationError: the file holds something else.
    """
    parts = read_json(path)
    if isinstance(parts, Mapping):
        # Recordings and units never have the same digest.
        parts = {
            name: dict.fromkeys(_COLUMNS, part) if isinstance(part, str) else part for name, part in parts.items()
        }
    if not _are_texts_of_parts(parts):
        raise ConfigurationError(f"{path} holds no digests of rows", hint="delete it, or copy it again")
    return {
        name: {
            column: frozenset(text[start : start + _DIGITS] for start in range(0, len(text), _DIGITS))
            for column, text in part.items()
        }
        for name, part in parts.items()
    }


def _are_texts_of_parts(parts: Any) -> bool:
    return isinstance(parts, Mapping) and all(
        isinstance(part, Mapping) and all(isinstance(text, str) for text in part.values()) for part in parts.values()
    )


def known_rows(rows: Dataset, trained: Mapping[str, Mapping[str, frozenset[str]]]) -> Iterator[KnownRows]:
    """Count rows that an adapter has seen: the same recordings, or the same units where one side has units alone.

    Args:
        rows (`Dataset`): rows with `units`, and `content` where there were recordings.
        trained (`Mapping`): from `read_trained_rows`.

    Yields:
        `KnownRows`: one a part of which there are some, the training rows first.
    """
    digests = row_digests(rows)
    for part in ("train", "validation"):
        recorded = trained.get(part, {})
        columns = [column for column in _COLUMNS if column in digests and recorded.get(column)]
        if recorded.get("content") != recorded.get("units"):
            # Of earlier versions' files nobody knows which column they are of.
            columns = columns[:1]
        numbers = {column: sum(digest in recorded[column] for digest in digests[column]) for column in columns}
        best = max(numbers, key=lambda column: numbers[column], default=None)
        if best is not None and numbers[best]:
            yield KnownRows(part, numbers[best], _COLUMNS[best])
