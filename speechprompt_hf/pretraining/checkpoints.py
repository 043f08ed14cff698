"""What a checkpoint was made from, so that no run goes on with other data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..core.errors import ConfigurationError

__all__ = ["check_identity", "rows_digest"]


def check_identity(path: Path, recorded: Mapping[str, str | None] | None, given: Mapping[str, str | None]) -> None:
    """Refuse to go on from a checkpoint of other data.

    Args:
        path (`Path`): the checkpoint.
        recorded (`Mapping`, *optional*): name of each part of the data → digest, in the checkpoint; checkpoints of
            earlier versions have none and are accepted.
        given (`Mapping`): the same of this run.

    Raises:
        ConfigurationError: parts differ; it names them.
    """
    if recorded is None:
        return
    names = sorted({*recorded, *given})
    different = [name for name in names if recorded.get(name) != given.get(name)]
    if different:
        raise ConfigurationError(
            f"{path} was made with other data: {', '.join(different)}",
            hint="give the same data, or another output folder",
        )


def rows_digest(rows: Sequence[np.ndarray]) -> str:
    """SHA-256 of token rows in their order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(len(row).to_bytes(8, "little"))
        digest.update(row.astype("<i4").tobytes())
    return digest.hexdigest()
