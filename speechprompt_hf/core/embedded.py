"""The backbones that ship inside the package, and the stable names by which adapters refer to them."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["DEFAULT_BASE", "EMBEDDED_BASES", "UNIT_MBART_BASE", "embedded_name", "resolve_base"]

DEFAULT_BASE = "speechprompt-hf/tiny-hubert-km100-gslm"
UNIT_MBART_BASE = "speechprompt-hf/tiny-hubert-km100-unit-mbart"
EMBEDDED_BASES = {DEFAULT_BASE: "default", UNIT_MBART_BASE: "unit_mbart"}
"""Name of each base → its folder in `backbones`. Both make the same units, by the default's encoder."""


def resolve_base(name_or_path: str) -> str:
    """Where a base is read from.

    Args:
        name_or_path (`str`): a Hub id, a folder, or the name of an embedded base.

    Returns:
        `str`: the folder inside the installed package for an embedded base, else the argument unchanged.
    """
    folder = EMBEDDED_BASES.get(name_or_path)
    if folder is None:
        return name_or_path
    path = Path(__file__).resolve().parent.parent / "backbones" / folder
    # Where this code came from the Hub without the package, the name is that of a repository.
    return str(path) if path.is_dir() else name_or_path


def embedded_name(folder: str | os.PathLike[str]) -> str | None:
    """The stable name of the embedded base in this folder; `None` if it is another folder."""
    path = Path(folder).resolve()
    return next((name for name in EMBEDDED_BASES if Path(resolve_base(name)).resolve() == path), None)
