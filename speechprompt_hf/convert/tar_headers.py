"""The headers of a tar of unknown origin: in memory one at a time, and never without end."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from .errors import ConversionError

__all__ = ["DAMAGED", "BoundedStream", "check_total", "tar_headers"]

DAMAGED = "it is damaged: copy or download it again"
"""What to do about an archive that is not whole."""

_MAX_HEADER, _MAX_HEADERS, _MAX_ATTRIBUTES = 2**20, 2**24, 100


def tar_headers(archive: tarfile.TarFile, bounded: BoundedStream) -> Iterator[tarfile.TarInfo]:
    """The headers of a tar in order, of which none is kept and none leads back.

    Args:
        archive (`tarfile.TarFile`): opened on the stream.
        bounded (`BoundedStream`): the stream.

    Raises:
        ConversionError: a size is impossible, or the headers are too large.
        tarfile.TarError: the archive is damaged.
    """
    while True:
        bounded.in_headers, bounded.one_header = True, 0
        info = archive.next()
        bounded.in_headers = False
        if info is None:
            return
        # tarfile keeps every header it has seen, with all attributes, and copies those of the archive into each.
        cast(Any, archive).members.clear()
        if len(archive.pax_headers) > _MAX_ATTRIBUTES:
            raise ConversionError(f"{bounded.path} has more than {_MAX_ATTRIBUTES} attributes", hint=DAMAGED)
        if info.size < 0 or archive.offset < bounded.tell():
            raise ConversionError(
                f"{bounded.path} is no whole archive: {info.name[:100]!r} has an impossible size ({info.size})",
                hint=DAMAGED,
            )
        yield info


class BoundedStream:
    """A stream that refuses to be read in pieces larger than a header, or beyond a limit.

    tarfile reads the headers of long names and attributes in one piece, of a size that the archive gives, and follows
    chains of them.

    Attributes:
        in_headers: what is read is a header.
        one_header: bytes of the headers of the current member.
        all_headers: bytes of all headers up to here.
    """

    def __init__(self, stream: Any, path: Path, max_bytes: int) -> None:
        self.stream, self.path, self.max_bytes = stream, path, max_bytes
        self.in_headers, self.one_header, self.all_headers = True, 0, 0

    def read(self, size: int) -> bytes:
        """So many bytes, or those up to the end; at most 1 MiB."""
        if not 0 <= size <= _MAX_HEADER:
            raise ConversionError(f"{self.path} has a header of {size} bytes", hint=DAMAGED)
        if self.in_headers:
            self.one_header += size
            self.all_headers += size
            for found, limit in ((self.one_header, _MAX_HEADER), (self.all_headers, _MAX_HEADERS)):
                if found > limit:
                    raise ConversionError(
                        f"{self.path} has headers of more than {limit} bytes",
                        hint="unpack it yourself and give the checkpoint",
                    )
        content: bytes = self.stream.read(size)
        check_total(self.stream.tell(), self.max_bytes, self.path)
        return content

    def seek(self, offset: int) -> int:
        """Go to a byte from the start."""
        if offset < 0:
            raise ConversionError(f"{self.path} is no whole archive: it leads to byte {offset}", hint=DAMAGED)
        check_total(offset, self.max_bytes, self.path)
        return int(self.stream.seek(offset))

    def tell(self) -> int:
        """The byte that is read next."""
        return int(self.stream.tell())

    def close(self) -> None:
        """The one who opened the stream closes it."""


def check_total(num_bytes: int, max_bytes: int, path: Path) -> None:
    """Refuse what comes to more than a limit.

    Args:
        num_bytes (`int`): that come out of an archive.
        max_bytes (`int`): that may.
        path (`Path`): of the archive, for the message.

    Raises:
        ConversionError: there are more.
    """
    if num_bytes > max_bytes:
        raise ConversionError(
            f"{path} unpacks to more than {max_bytes} bytes", hint="unpack it yourself and give the checkpoint"
        )
