"""fairseq's `dict.txt`: its text, and how many rows of an embedding it makes."""

from __future__ import annotations

from pathlib import Path

from .errors import ConversionError

__all__ = ["padded_size", "read_symbols"]

_MAX_BYTES = 2**23
_PADDING_FACTOR = 8


def read_symbols(path: Path) -> list[str]:
    """The first word of every line that is not empty.

    Args:
        path (`Path`): of the dictionary.

    Raises:
        ConversionError: there is no such file, it is too large, or no text.
    """
    if not path.is_file():
        raise ConversionError(f"there is no dictionary {path}", hint="give the dict.txt beside the checkpoint")
    if path.stat().st_size > _MAX_BYTES:
        raise ConversionError(f"{path} has {path.stat().st_size} bytes, more than {_MAX_BYTES}")
    try:
        return [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except ValueError as error:
        raise ConversionError(f"{path} is no dictionary of units: {error}"[:300]) from error


def padded_size(num_tokens: int) -> int:
    """Rows of a dictionary that fairseq builds; files of some versions list the padding, others do not."""
    return -(-num_tokens // _PADDING_FACTOR) * _PADDING_FACTOR
