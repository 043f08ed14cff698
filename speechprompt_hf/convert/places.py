"""What is wrong with a place that a user named."""

from __future__ import annotations

from pathlib import Path

__all__ = ["no_file", "no_folder"]


def no_file(path: str | Path) -> str:
    """Why a place cannot be read as a file.

    Args:
        path (`str | Path`): where no ordinary file is.

    Returns:
        `str`: the beginning of an error.
    """
    place = Path(path)
    if place.is_dir():
        return f"{path} is a folder"
    return f"{path} is a device, a pipe or a socket, no file" if place.exists() else f"there is no file {path}"


def no_folder(path: str | Path) -> str:
    """Why a place cannot be read as a folder.

    Args:
        path (`str | Path`): where no folder is.

    Returns:
        `str`: the beginning of an error.
    """
    return f"{path} is a file, no folder" if Path(path).exists() else f"there is no folder {path}"
