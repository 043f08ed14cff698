"""Single files out of tar and zip archives: chosen by their last name, and nothing else is written."""

from __future__ import annotations

import errno
import gzip
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, Any, cast

from .download_errors import DiskFullError
from .errors import ConversionError
from .tar_headers import DAMAGED, BoundedStream, check_total, tar_headers

__all__ = ["Member", "extract", "is_archive", "list_members"]

_CHUNK = 2**20
_MAX_MEMBERS = 10_000
_MAX_BYTES = 2**35
_LONGEST_PATH, _LONGEST_NAME = 200, 255
_ZIP, _GZIP = b"PK\x03\x04", b"\x1f\x8b"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class Member:
    """A regular file of an archive.

    Attributes:
        path (`str`): as the archive gives it, at most 200 characters of it; it is only shown, never opened.
        name (`str`): its last part, at most 255 characters of it.
        num_bytes (`int`): its size.
        index (`int`): its place in the archive, which tells it from others of the same path.
    """

    path: str
    name: str
    num_bytes: int
    index: int


def is_archive(path: str | Path) -> bool:
    """Whether a file is a tar (plain or with gzip) or zip archive; a zip of `torch.save` counts as a checkpoint.

    Args:
        path (`str | Path`): of a file that is there.
    """
    with Path(path).open("rb") as file:
        head = file.read(tarfile.BLOCKSIZE)
    if head.startswith(_ZIP):
        return not _is_torch_file(Path(path))
    if head.startswith(_GZIP):
        try:
            with gzip.open(path) as stream:
                head = stream.read(tarfile.BLOCKSIZE)
        except (OSError, EOFError, zlib.error):
            return False
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "replace")
    except tarfile.HeaderError:
        return False
    return True


def list_members(path: str | Path, *, max_bytes: int = _MAX_BYTES) -> tuple[Member, ...]:
    """The regular files of an archive.

    A tar is read to its end, so that damage shows. Of a zip only the directory is read: damage in one of its files
    shows when [`extract`] compares the checksum.

    Args:
        path (`str | Path`): an archive as in [`is_archive`].
        max_bytes (`int`, *optional*, defaults to 32 GiB): the most that may come out of it.

    Raises:
        ConversionError: it is damaged, or holds too much.
    """
    with _opened(Path(path), max_bytes) as archive:
        return tuple(member for member, _ in archive)


def extract(
    path: str | Path, wanted: Mapping[str, Sequence[str]], folder: str | Path, *, max_bytes: int = _MAX_BYTES
) -> dict[str, Path]:
    """Write chosen files of an archive into a folder.

    Args:
        path (`str | Path`): an archive as in [`is_archive`].
        wanted (`Mapping[str, Sequence[str]]`): role → patterns of file names (`"checkpoint_best.pt"`, `"*.pt"`); the
            first pattern that fits any file decides. Folders inside the archive do not matter.
        folder (`str | Path`): where to write, a folder for each role.
        max_bytes (`int`, *optional*, defaults to 32 GiB): the most that may come out of the archive.

    Returns:
        `dict[str, Path]`: role → file, for the roles that were found.

    Raises:
        ConversionError: the archive is damaged, encrypted or holds too much, or a pattern fits several files.
        DiskFullError: there is no room for the chosen files; nothing was written.
    """
    members = list_members(path, max_bytes=max_bytes)
    chosen = {role: _choose(members, patterns, str(path)) for role, patterns in wanted.items()}
    roles = {member.index: role for role, member in chosen.items() if member is not None}
    _check_room(sum(member.num_bytes for member in members if member.index in roles), path, folder)
    found: dict[str, Path] = {}
    with _opened(Path(path), max_bytes) as archive:
        for member, open_member in archive:
            if member.index in roles:
                role = roles[member.index]
                name = member.name if _PLAIN_NAME.fullmatch(member.name) else role
                found[role] = Path(folder) / role / name
                found[role].parent.mkdir()
                with open_member() as source:
                    _copy(source, found[role], member, str(path))
    return found


def _choose(members: Sequence[Member], patterns: Sequence[str], archive: str) -> Member | None:
    for pattern in patterns:
        # macOS puts a file of attributes beside each file.
        fitting = [each for each in members if fnmatch(each.name, pattern) and not each.name.startswith("._")]
        if len(fitting) > 1:
            raise ConversionError(
                f"{archive} holds {len(fitting)} files {pattern}: {', '.join(each.path[:80] for each in fitting[:4])}",
                hint="unpack it and give the one that is meant",
            )
        if fitting:
            return fitting[0]
    return None


def _copy(source: IO[bytes], target: Path, member: Member, archive: str) -> None:
    num_bytes = 0
    with target.open("xb") as file:
        while chunk := source.read(_CHUNK):
            num_bytes += len(chunk)
            if num_bytes > member.num_bytes:
                break
            file.write(chunk)
    if num_bytes != member.num_bytes:
        raise ConversionError(
            f"{member.path[:100]} in {archive} has {num_bytes} bytes, announced are {member.num_bytes}", hint=DAMAGED
        )


def _is_torch_file(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.count("/") == 1 and name.endswith("/data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, LookupError, struct.error, OSError, RuntimeError):
        # torch.save wrote it, or somebody else; the reader of checkpoints says what is wrong with it.
        return True


@contextmanager
def _opened(path: Path, max_bytes: int) -> Iterator[Iterator[tuple[Member, Any]]]:
    """The regular files of an archive in order, each with what opens it; damage becomes one kind of error."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
            is_zip = file.read(4) == _ZIP
            file.seek(0)
            yield _zip_members(file, path, max_bytes) if is_zip else _tar_members(file, path, max_bytes, stack)
        except ConversionError:
            raise
        # What zipfile and tarfile raise for damaged archives; encrypted ones are RuntimeErrors.
        except (
            tarfile.TarError,
            zipfile.BadZipFile,
            gzip.BadGzipFile,
            zlib.error,
            struct.error,
            EOFError,
            ValueError,
            LookupError,
            ArithmeticError,
            RuntimeError,
        ) as error:
            reason = str(error) or type(error).__name__
            raise ConversionError(f"{path} is no whole archive: {reason}"[:300], hint=DAMAGED) from error
        except OSError as error:
            # What the system says of an impossible place in the file.
            if error.errno != errno.EINVAL:
                raise
            raise ConversionError(f"{path} is no whole archive: {error.strerror}", hint=DAMAGED) from error


def _zip_members(file: IO[bytes], path: Path, max_bytes: int) -> Iterator[tuple[Member, Any]]:
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        _check_count(len(infos), path)
        total = 0
        for index, info in enumerate(infos):
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir() or kind not in (0, stat.S_IFREG):
                continue
            total += info.file_size
            check_total(total, max_bytes, path)
            yield _member(info.filename, info.file_size, index), lambda info=info: archive.open(info)


def _tar_members(file: IO[bytes], path: Path, max_bytes: int, stack: ExitStack) -> Iterator[tuple[Member, Any]]:
    is_gzip = file.read(2) == _GZIP
    file.seek(0)
    stream: Any = stack.enter_context(gzip.GzipFile(fileobj=file)) if is_gzip else file
    bounded = BoundedStream(stream, path, max_bytes)
    with tarfile.open(fileobj=cast(Any, bounded), mode="r:") as archive:
        for index, info in enumerate(tar_headers(archive, bounded)):
            _check_count(index + 1, path)
            if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or info.issparse():
                continue
            check_total(info.size, max_bytes, path)
            yield _member(info.name, info.size, index), lambda info=info: archive.extractfile(info)
    # To the end, where gzip compares its checksum.
    while bounded.read(_CHUNK):
        pass


def _check_count(count: int, path: Path) -> None:
    if count > _MAX_MEMBERS:
        raise ConversionError(f"{path} holds more than {_MAX_MEMBERS} files", hint="unpack it and give the checkpoint")


def _check_room(num_bytes: int, path: str | Path, folder: str | Path) -> None:
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise DiskFullError(
            f"no room on the disk to unpack {path} into {folder}: {num_bytes} bytes are needed, {free} are free",
            hint="make room, and try again",
        )


def _member(path: str, num_bytes: int, index: int) -> Member:
    name = path.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return Member(path[:_LONGEST_PATH], name[:_LONGEST_NAME], num_bytes, index)
