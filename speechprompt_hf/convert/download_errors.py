"""What goes wrong on the way of a file from a server to the disk."""

from __future__ import annotations

from ..core.errors import SpeechPromptError

__all__ = [
    "DiskFullError",
    "DownloadError",
    "FileNotThereError",
    "IncompleteDownloadError",
    "UnreachableError",
    "WrongDigestError",
]


class DownloadError(SpeechPromptError, OSError):
    """A file could not be fetched."""


class UnreachableError(DownloadError):
    """The server cannot be reached, or is busy."""

    is_mistake = False


class FileNotThereError(DownloadError):
    """The server has no such file, or shows it to nobody."""


class IncompleteDownloadError(DownloadError):
    """The connection broke again and again; what arrived is kept."""

    is_mistake = False


class WrongDigestError(DownloadError):
    """The file is another one than the one that was pinned or fetched before."""


class DiskFullError(DownloadError):
    """There is no room for the file."""

    is_mistake = False
