"""One hash that says whether two runs saw the same data."""

from __future__ import annotations

import hashlib
import json

from datasets import Dataset

from .loading import Splits

__all__ = ["data_fingerprint", "rows_fingerprint"]


def rows_fingerprint(rows: Dataset) -> str:
    """SHA-256 over the rows in order: content hash (units where there is none), label and speaker.

    Args:
        rows (`Dataset`): rows with units.
    """
    digest = hashlib.sha256()
    column = "content" if "content" in rows.column_names else "units"
    for content, label, speaker in zip(rows[column], rows["label"], rows["speaker"], strict=True):
        digest.update(json.dumps([content, label, speaker], ensure_ascii=False).encode())
        digest.update(b"\n")
    return digest.hexdigest()


def data_fingerprint(splits: Splits) -> dict[str, str]:
    """`rows_fingerprint` of each part, and `digest`, the SHA-256 of the three together."""
    parts = {name: rows_fingerprint(part) for name, part in splits.items()}
    together = hashlib.sha256("".join(parts.values()).encode()).hexdigest()
    return {"digest": together, **parts}
