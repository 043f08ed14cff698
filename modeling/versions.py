"""Versions of the packages that an adapter was made with."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

__all__ = ["package_versions"]

_PACKAGES = ("speechprompt-hf", "transformers", "peft", "torch")


def package_versions() -> dict[str, str]:
    """Name → version of the packages that shape an adapter; those that are not installed are left out."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
