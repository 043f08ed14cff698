"""Versions of installed packages."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

__all__ = ["package_versions"]


def package_versions(names: Sequence[str]) -> dict[str, str]:
    """Name → version of the packages that are installed; the others are left out."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
