"""Opens files that joblib may have compressed, within a bound of size."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from pathlib import Path
from typing import BinaryIO, Protocol

from .errors import ConversionError
from .places import no_file

__all__ = ["MAX_BYTES", "open_decompressed"]

MAX_BYTES = 2**28
"""Largest file that is read; the centroids of 2,000 units of 1,024 features have 8 MB."""

_MAX_LZMA_MEMORY = 2**28


class _Decompressor(Protocol):
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...

    @property
    def eof(self) -> bool: ...


def open_decompressed(path: Path) -> BinaryIO:
    """The file's content, decompressed where its first bytes say so.

    Args:
        path (`Path`): raw, or compressed with zlib, gzip, bz2, lzma or xz.

    Returns:
        `BinaryIO`: seekable; the caller closes it.

    Raises:
        ConversionError: the content is damaged or larger than `MAX_BYTES`, or the compression is another one.
    """
    if not path.is_file():
        raise ConversionError(no_file(path), hint="give the file itself, spelled as it is on the disk")
    if path.stat().st_size > MAX_BYTES:
        raise ConversionError(f"{path} has {path.stat().st_size} bytes, more than {MAX_BYTES}")
    file = path.open("rb")
    head = file.read(6)
    file.seek(0)
    if not head:
        file.close()
        raise ConversionError(f"{path} is empty", hint="download or copy it again")
    if head.startswith(b"\x80"):
        return file
    with file:
        decompressor = _decompressor(head, path)
        try:
            content = decompressor.decompress(file.read(), MAX_BYTES)
        except (zlib.error, lzma.LZMAError, OSError, EOFError, MemoryError) as error:
            raise ConversionError(f"{path} cannot be decompressed: {error}", hint="it is damaged") from error
    if not decompressor.eof:
        what = f"holds more than {MAX_BYTES} bytes" if len(content) >= MAX_BYTES else "is truncated"
        raise ConversionError(f"{path} {what}", hint="copy or download it again")
    return io.BytesIO(content)


def _decompressor(head: bytes, path: Path) -> _Decompressor:
    if head.startswith(b"\x1f\x8b") or head[:1] == b"\x78":
        return zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)
    if head.startswith(b"BZh"):
        return bz2.BZ2Decompressor()
    if head.startswith(b"\xfd7zXZ") or head.startswith(b"\x5d\x00"):
        return lzma.LZMADecompressor(memlimit=_MAX_LZMA_MEMORY)
    raise ConversionError(
        f"{path} starts with {head!r}: no joblib file, or compressed in a way that is not read",
        hint="zlib, gzip, bz2, lzma and xz are read, and files that are not compressed",
    )
