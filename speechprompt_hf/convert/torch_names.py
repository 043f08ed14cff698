"""Names in files of `torch.save`: tensors stay descriptions of where their bytes lie."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from .errors import ConversionError
from .pickle_machine import Global
from .pickle_names import PlainRules

__all__ = ["LazyTensor", "StoredBytes", "TorchRules"]

_STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_DTYPES = ("float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")
_MAX_DIMENSIONS = 8


@dataclass(frozen=True)
class StoredBytes:
    """A storage of torch: numbers of one type, one behind the other.

    Args:
        key (`str`): its name in the file.
        dtype (`torch.dtype`): of its numbers.
        num_elements (`int`): how many there are.
    """

    key: str
    dtype: torch.dtype
    num_elements: int

    @property
    def num_bytes(self) -> int:
        """Size in bytes."""
        return self.num_elements * self.dtype.itemsize


@dataclass(frozen=True)
class LazyTensor:
    """A tensor that has not been read yet.

    Args:
        storage (`StoredBytes`): where its numbers are.
        offset (`int`): its first number.
        shape (`tuple[int, ...]`): its shape.
        stride (`tuple[int, ...]`): numbers between neighbours, for each dimension.
    """

    storage: StoredBytes
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def dtype(self) -> torch.dtype:
        """Type of its numbers."""
        return self.storage.dtype


class TorchRules(PlainRules):
    """Admits tensors, and as mere names the classes in which fairseq keeps settings."""

    def __init__(self) -> None:
        names = {
            *(f"torch.{name}" for name in (*_STORAGES, *_DTYPES, "Size", "device")),
            *(f"torch._utils._rebuild_{name}" for name in ("tensor", "tensor_v2", "parameter")),
            "torch.nn.parameter.Parameter",
            "argparse.Namespace",
            "typing.Any",
            "pathlib.PosixPath",
        }
        super().__init__(frozenset(names), packages=("omegaconf", "fairseq"))

    def construct(self, name: Global, args: tuple[Any, ...]) -> Any:
        """Tensors as `LazyTensor`, containers as containers, everything else as a `Record`.

        Raises:
            ConversionError: a tensor reaches beyond its storage.
        """
        path = str(name)
        if path in ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"):
            return _tensor(args)
        if path == "torch._utils._rebuild_parameter":
            if not args or not isinstance(args[0], LazyTensor):
                raise ConversionError("a parameter is made of something that is no tensor")
            return args[0]
        if path == "torch.Size":
            return args[0] if args else ()
        return super().construct(name, args)

    def persistent(self, identity: Any) -> StoredBytes:
        """The storage to which a pickle of `torch.save` refers.

        Raises:
            ConversionError: the reference is of another kind.
        """
        if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
            raise ConversionError("a tensor refers to something that is no storage of torch")
        kind, key, num_elements = identity[1], identity[2], identity[4]
        if not isinstance(kind, Global) or kind.module != "torch" or kind.name not in _STORAGES:
            raise ConversionError(f"a tensor is stored as {kind if isinstance(kind, Global) else type(kind).__name__}")
        if not isinstance(key, str) or type(num_elements) is not int or not 0 <= num_elements < 2**40:
            raise ConversionError(f"the storage {key!r} of a tensor has no usable size"[:200])
        if len(identity) == 6 and identity[5] is not None:
            raise ConversionError(f"the storage {key[:100]} is a view of another, as torch before 0.4 wrote it")
        return StoredBytes(key, _STORAGES[kind.name], num_elements)


def _tensor(args: tuple[Any, ...]) -> LazyTensor:
    if len(args) < 4 or not isinstance(args[0], StoredBytes):
        raise ConversionError("a tensor is made of something else than a storage, an offset, a shape and strides")
    storage, offset, shape, stride = args[:4]
    numbers = (offset, *_sizes(shape), *_sizes(stride))
    if len(shape) != len(stride) or not all(type(number) is int and 0 <= number < 2**40 for number in numbers):
        raise ConversionError("a tensor has an impossible offset, shape or stride")
    num_elements = math.prod(shape)
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    # A stride of 0 would make any number of values of a single one.
    if num_elements > storage.num_elements or (num_elements and last >= storage.num_elements):
        raise ConversionError(
            f"a tensor of shape {tuple(shape)} reaches beyond its storage of {storage.num_elements} numbers"
        )
    return LazyTensor(storage, offset, tuple(shape), tuple(stride))


def _sizes(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, tuple) or len(value) > _MAX_DIMENSIONS:
        raise ConversionError(f"the shape or stride of a tensor is no tuple of at most {_MAX_DIMENSIONS} numbers")
    return value
