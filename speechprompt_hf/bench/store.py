"""Finished results, each a file that is named by all that its numbers depend on, and the locks of their makers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

from filelock import FileLock

from ..core.errors import ConfigurationError
from ..core.files import read_json, write_json

__all__ = ["Keyed", "ResultStore"]


class Keyed(Protocol):
    """What is computed at once and kept as one file: a cell, or a part of an in-context suite.

    Attributes:
        noun (`str`): how errors call it.
    """

    noun: ClassVar[str]

    @property
    def key(self) -> str:
        """SHA-256 over all that the numbers depend on."""

    @property
    def label(self) -> str:
        """For lines of progress."""

    @property
    def folder(self) -> str:
        """Of the file, below the work folder."""

    @property
    def names(self) -> dict[str, str]:
        """What its content is called in this run."""


class ResultStore:
    """Finished results and locks in a work folder that several processes may share.

    Args:
        work (`Path`): the folder.
    """

    def __init__(self, work: Path) -> None:
        self.work = work

    def path(self, result: Keyed) -> Path:
        """The file of a result."""
        return self.work / result.folder / f"{result.key[:32]}.json"

    def has(self, result: Keyed) -> bool:
        """Whether a result is done."""
        return self.path(result).is_file()

    def read(self, result: Keyed) -> dict[str, Any]:
        """The content of a result's file, under the names of this run.

        Raises:
            ConfigurationError: the file is damaged or another result's.
        """
        path = self.path(result)
        values = read_json(path)
        if not isinstance(values, dict) or values.get("key") != result.key:
            raise ConfigurationError(
                f"{path} is not the {result.noun} {result.label}", hint="delete the file to compute it again"
            )
        return {**values, **result.names}

    def write(self, result: Keyed, values: Mapping[str, Any]) -> None:
        """Keep a result, whole or not at all."""
        write_json(self.path(result), {"key": result.key, **values})

    def lock(self, name: str) -> FileLock:
        """What one process at a time may make; the system frees the lock of a process that was killed."""
        path = self.work / "locks" / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path)

    def scratch(self, result: Keyed) -> Path:
        """A folder for what training writes and does not keep."""
        return self.work / "scratch" / result.key[:32]
