"""Which rows an adapter has seen in its training, kept beside it, so that no evaluation takes them for new ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from datasets import Dataset

from ..core.errors import ConfigurationError
from ..core.files import read_json, write_json
from .loading import Splits

__all__ = ["TRAINED_ROWS_FILE", "read_trained_rows", "row_digests", "write_trained_rows"]

TRAINED_ROWS_FILE = "trained_rows.json"
"""Lies beside report.json. It holds short digests, no recordings and no units."""

# 48 bits: among 100,000 rows of training and of test each, one false match in 30,000 evaluations.
_DIGITS = 12


def row_digests(rows: Dataset) -> list[str]:
    """What each row holds, without label and speaker, as 12 hexadecimal digits.

    Args:
        rows (`Dataset`): R rows with `units`, and `content`, the hash of the recording, where there were recordings.

    Returns:
        `list[str]` of length R.
    """
    column = "content" if "content" in rows.column_names else "units"
    return [hashlib.sha256(json.dumps(content).encode()).hexdigest()[:_DIGITS] for content in rows[column]]


def write_trained_rows(path: str | Path, splits: Splits) -> None:
    """Write the digests of the rows that trained and of those that chose the epoch.

    Args:
        path (`str | Path`): the file.
        splits (`Splits`): rows with units.
    """
    parts = {"train": splits.train, "validation": splits.validation}
    write_json(path, {name: "".join(sorted(set(row_digests(rows)))) for name, rows in parts.items()})


def read_trained_rows(path: str | Path) -> dict[str, frozenset[str]]:
    """Read what `write_trained_rows` wrote.

    Args:
        path (`str | Path`): the file.

    Returns:
        `dict[str, frozenset[str]]`: part → digests.

    Raises:
        ConfigurationError: the file holds something else.
    """
    parts = read_json(path)
    if not isinstance(parts, Mapping) or not all(isinstance(text, str) for text in parts.values()):
        raise ConfigurationError(f"{path} holds no digests of rows", hint="delete it, or copy it again")
    return {
        name: frozenset(text[start : start + _DIGITS] for start in range(0, len(text), _DIGITS))
        for name, text in parts.items()
    }
