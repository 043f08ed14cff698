"""Bytes of an untrusted file: no read is larger than what is left."""

from __future__ import annotations

import os
from typing import BinaryIO

from .errors import ConversionError

__all__ = ["ByteStream"]

_MAX_LINE = 65_536


class ByteStream:
    """A file that refuses to make more bytes than it has, with the part of the file interface that pickletools uses.

    Args:
        file (`BinaryIO`): seekable, open for reading; the stream starts where it stands.
        name (`str`): of the file, for messages.

    Source:
        `file.read(n)` allocates n bytes before it finds out that there are fewer.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file, self.name = file, name
        here = file.tell()
        self.size = file.seek(0, os.SEEK_END)
        file.seek(here)

    def tell(self) -> int:
        """Where the stream stands, in bytes from the start of the file."""
        return self.file.tell()

    def read(self, num_bytes: int) -> bytes:
        """Exactly `num_bytes` bytes; at the very end of the file none, which pickletools looks for.

        Raises:
            ConversionError: fewer are left.
        """
        left = self.size - self.file.tell()
        if not 0 <= num_bytes <= left and left:
            raise ConversionError(
                f"{self.name} is truncated: {num_bytes} bytes are announced at byte {self.tell()}, {left} are left",
                hint="copy or download it again",
            )
        return self.file.read(num_bytes) if left else b""

    def read_exactly(self, num_bytes: int) -> bytes:
        """Exactly `num_bytes` bytes.

        Raises:
            ConversionError: fewer are left.
        """
        content = self.read(num_bytes)
        if len(content) != num_bytes:
            raise ConversionError(
                f"{self.name} is truncated: {num_bytes} bytes are announced at its end, byte {self.tell()}",
                hint="copy or download it again",
            )
        return content

    def skip(self, num_bytes: int) -> None:
        """Go on behind `num_bytes` bytes.

        Raises:
            ConversionError: fewer are left.
        """
        if not 0 <= num_bytes <= self.size - self.tell():
            raise ConversionError(
                f"{self.name} is truncated: {num_bytes} bytes are announced at byte {self.tell()} of {self.size}",
                hint="copy or download it again",
            )
        self.file.seek(num_bytes, os.SEEK_CUR)

    def readline(self) -> bytes:
        """Bytes up to the next line feed, which is included.

        Raises:
            ConversionError: the line is longer than any name or number in a pickle.
        """
        line = self.file.readline(_MAX_LINE)
        if len(line) == _MAX_LINE and not line.endswith(b"\n"):
            raise ConversionError(f"{self.name} has a line of more than {_MAX_LINE} bytes at byte {self.tell()}")
        return line
