"""Writes safetensors one tensor at a time, so that no more than one is in memory."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..core.files import atomic_path

__all__ = ["PendingTensor", "write_weights"]

_NAMES = {torch.float32: "F32", torch.float16: "F16"}


@dataclass(frozen=True)
class PendingTensor:
    """A tensor that is made when its turn comes.

    Args:
        shape (`tuple[int, ...]`): its shape.
        read (`Callable`): makes it; a floating tensor of any dtype.
    """

    shape: tuple[int, ...]
    read: Callable[[], Tensor]


def write_weights(path: str | Path, tensors: Mapping[str, PendingTensor], dtype: torch.dtype) -> None:
    """Write a safetensors file, whole or not at all.

    Args:
        path (`str | Path`): where it shall be.
        tensors (`Mapping[str, PendingTensor]`): in the order in which they are read.
        dtype (`torch.dtype`): float32 or float16.

    Source:
        safetensors' format: the length of the header in 8 bytes, little endian; the header, JSON; the numbers.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + math.prod(tensor.shape) * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    encoded = json.dumps(header, separators=(",", ":")).encode()
    # The numbers start at a multiple of 8, as safetensors' own writer has it.
    encoded += b" " * (-len(encoded) % 8)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little"))
        file.write(encoded)
        for tensor in tensors.values():
            values = tensor.read().to(dtype).contiguous()
            file.write(values.numpy().data.cast("B"))
