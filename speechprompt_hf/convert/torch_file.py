"""Files of `torch.save`, zip archives and the older format, read one tensor at a time and never executed."""

from __future__ import annotations

import errno
import io
import struct
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from .byte_stream import ByteStream
from .errors import ConversionError
from .pickle_machine import load_inert
from .places import no_file
from .torch_names import LazyTensor, StoredBytes, TorchRules

__all__ = ["TorchFile", "open_torch_file"]

MAX_PICKLE_BYTES = 2**26
"""Largest description of a checkpoint's content; that of a large model has 100 kB."""

_CHUNK = 2**22
_MAX_ENTRIES = 100_000
_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL_VERSION = 1001
_DAMAGED = "it is damaged: copy or download it again"


class TorchFile(ABC):
    """An open checkpoint.

    Args:
        name (`str`): of the file, for messages.

    Attributes:
        content: what was saved, with a `LazyTensor` for each tensor.
    """

    content: Any

    def __init__(self, name: str) -> None:
        self.name = name
        self._last: tuple[StoredBytes, bytearray] | None = None

    def read(self, tensor: LazyTensor) -> Tensor:
        """The tensor itself; the storage read last is kept, for tensors that share it.

        Raises:
            ConversionError: the file is damaged there.
        """
        if self._last is None or self._last[0] != tensor.storage:
            self._last = None
            self._last = (tensor.storage, self._storage_bytes(tensor.storage))
        if not tensor.storage.num_elements:
            return torch.empty(tensor.shape, dtype=tensor.dtype)
        flat = torch.frombuffer(self._last[1], dtype=tensor.dtype)
        return flat.as_strided(tensor.shape, tensor.stride, tensor.offset)

    @abstractmethod
    def _storage_bytes(self, storage: StoredBytes) -> bytearray:
        """The bytes of a storage, `storage.num_bytes` of them."""


@contextmanager
def open_torch_file(path: str | Path) -> Iterator[TorchFile]:
    """Open a file of `torch.save`.

    Args:
        path (`str | Path`): zip archive, or the format of torch before 1.6.

    Yields:
        `TorchFile`: what it holds.

    Raises:
        ConversionError: the file is damaged, of another kind, or names something else than tensors, plain data and
            settings.
    """
    place = Path(path)
    if not place.is_file():
        raise ConversionError(no_file(path), hint="give the checkpoint itself, spelled as it is on the disk")
    with place.open("rb") as file:
        head = file.read(4)
        file.seek(0)
        if head == b"PK\x03\x04":
            with _zip_errors(str(path)):
                archive = zipfile.ZipFile(file)  # closes nothing that `file` does not close
            yield _ZipFile(archive, str(path))
        elif head[:1] == b"\x80":
            yield _LegacyFile(file, str(path))
        else:
            if not head:
                raise ConversionError(f"{path} is empty", hint="download or copy it again")
            raise ConversionError(
                f"{path} starts with {head!r}: no file of torch.save", hint="give the checkpoint itself, unpacked"
            )


@contextmanager
def _zip_errors(name: str) -> Iterator[None]:
    """What zipfile raises for damaged archives."""
    try:
        yield
    except ConversionError:
        raise
    except OSError as error:
        # An archive that points to before its own start is sought there.
        if error.errno != errno.EINVAL:
            raise
        raise ConversionError(f"{name} is no whole zip archive: {error}"[:300], hint=_DAMAGED) from error
    # What zipfile cannot do, and encrypted archives, are RuntimeErrors.
    except (
        zipfile.BadZipFile,
        struct.error,
        RuntimeError,
        ValueError,
        LookupError,
        ArithmeticError,
        EOFError,
    ) as error:
        raise ConversionError(f"{name} is no whole zip archive: {error}"[:300], hint=_DAMAGED) from error


class _ZipFile(TorchFile):
    """The format of torch since 1.6: `data.pkl` and a file for each storage, none of them compressed."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        super().__init__(name)
        self.archive = archive
        self.entries = _entries(archive, name)
        pickles = [entry for entry in self.entries if entry.count("/") == 1 and entry.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ConversionError(f"{name} has {len(pickles)} entries data.pkl", hint="it is no file of torch.save")
        self.root = pickles[0].removesuffix("data.pkl")
        byte_order = self.root + "byteorder"
        if byte_order in self.entries and self._entry(byte_order, 16).strip() != b"little":
            raise ConversionError(f"{name} was written on a machine with another byte order")
        self.content = _parsed(self._entry(pickles[0], MAX_PICKLE_BYTES), name)

    def _entry(self, entry: str, limit: int) -> bytearray:
        info = self.entries[entry]
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > limit:
            raise ConversionError(f"{entry} in {self.name} is compressed, or has {info.file_size} bytes of {limit}")
        content = bytearray()
        with _zip_errors(self.name), self.archive.open(info) as file:
            # To the end of the entry, where zipfile compares the checksum.
            while chunk := file.read(_CHUNK):
                content += chunk
        if len(content) != info.file_size:
            raise ConversionError(f"{entry} in {self.name} is truncated", hint=_DAMAGED)
        return content

    def _storage_bytes(self, storage: StoredBytes) -> bytearray:
        entry = f"{self.root}data/{storage.key}"
        if entry not in self.entries:
            raise ConversionError(f"{self.name} lacks {entry[:200]}", hint=_DAMAGED)
        if self.entries[entry].file_size != storage.num_bytes:
            raise ConversionError(
                f"{entry} in {self.name} has {self.entries[entry].file_size} bytes, its tensor needs "
                f"{storage.num_bytes}",
                hint=_DAMAGED,
            )
        return self._entry(entry, storage.num_bytes)


class _LegacyFile(TorchFile):
    """The format before 1.6: five pickles, then every storage behind its number of elements."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        super().__init__(name)
        self.stream = ByteStream(file, name)
        rules = _CollectingRules()
        if load_inert(self.stream, rules) != _MAGIC_NUMBER or load_inert(self.stream, rules) != _PROTOCOL_VERSION:
            raise ConversionError(f"{name} is a pickle, but no file of torch.save")
        system = load_inert(self.stream, rules)
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise ConversionError(f"{name} was written on a machine with another byte order")
        self.content = load_inert(self.stream, rules)
        keys = load_inert(self.stream, rules)
        if self.stream.tell() > MAX_PICKLE_BYTES or not isinstance(keys, list):
            raise ConversionError(f"{name} lists no storages")
        self.places = self._places(keys, rules.storages)

    def _places(self, keys: list[Any], storages: dict[str, StoredBytes]) -> dict[str, int]:
        """Where the bytes of each storage start."""
        places: dict[str, int] = {}
        for key in keys:
            if not isinstance(key, str) or key not in storages or key in places:
                raise ConversionError(f"{self.name} lists a storage that no tensor uses, or one twice", hint=_DAMAGED)
            size = int.from_bytes(self.stream.read_exactly(8), "little")
            if size != storages[key].num_elements:
                raise ConversionError(
                    f"storage {key[:100]} in {self.name} has {size} numbers, its tensor needs "
                    f"{storages[key].num_elements}",
                    hint=_DAMAGED,
                )
            places[key] = self.stream.tell()
            self.stream.skip(storages[key].num_bytes)
        if self.stream.tell() != self.stream.size:
            raise ConversionError(f"{self.name} goes on after its last storage", hint=_DAMAGED)
        return places

    def _storage_bytes(self, storage: StoredBytes) -> bytearray:
        if storage.key not in self.places:
            raise ConversionError(f"{self.name} lacks the storage {storage.key[:100]}", hint=_DAMAGED)
        self.stream.file.seek(self.places[storage.key])
        content = bytearray(storage.num_bytes)
        if self.stream.file.readinto(content) != len(content):  # type: ignore[attr-defined]
            raise ConversionError(f"{self.name} is truncated", hint=_DAMAGED)
        return content


class _CollectingRules(TorchRules):
    """Remembers every storage, as the older format says their types only where they are used."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[str, StoredBytes] = {}

    def persistent(self, identity: Any) -> StoredBytes:
        storage = super().persistent(identity)
        if self.storages.setdefault(storage.key, storage) != storage:
            raise ConversionError(f"the storage {storage.key[:100]} is used with two types or sizes")
        return storage


def _entries(archive: zipfile.ZipFile, name: str) -> dict[str, zipfile.ZipInfo]:
    infos = archive.infolist()
    entries = {info.filename: info for info in infos}
    if len(infos) > _MAX_ENTRIES or len(entries) != len(infos):
        raise ConversionError(
            f"{name} has {len(infos)} entries, or two of one name", hint="it is no file of torch.save"
        )
    return entries


def _parsed(content: bytearray, name: str) -> Any:
    stream = ByteStream(io.BytesIO(content), name)
    parsed = load_inert(stream, TorchRules())
    if stream.tell() != stream.size:
        raise ConversionError(f"data.pkl in {name} goes on after its end", hint=_DAMAGED)
    return parsed
