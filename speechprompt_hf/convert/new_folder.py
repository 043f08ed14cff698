"""Folders that are whole or absent."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import ConversionError

__all__ = ["new_folder"]


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder beside `path`, moved there when the block ends without an error, and removed otherwise.

    Args:
        path (`str | Path`): where the folder shall be; it may be there if it is empty.

    Yields:
        `Path`: where to write.

    Raises:
        ConversionError: there is something at `path`.
    """
    target = Path(path)
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise ConversionError(f"{target} exists and is no empty folder", hint="choose another one, or remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield temporary
        # mkdtemp makes folders that only their owner can enter.
        temporary.chmod(0o755)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
