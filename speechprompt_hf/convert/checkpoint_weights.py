"""What the converters of torch files share: the weights of a checkpoint, read one at a time and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from .errors import ConversionError
from .torch_file import TorchFile
from .torch_names import LazyTensor

__all__ = ["DTYPES", "check_repeats", "checked_content", "weight_reader"]

DTYPES = {"float32": torch.float32, "float16": torch.float16}
"""Precisions that weights are written in."""


def checked_content(
    file: TorchFile, entry: str = "model", *, hint: str = "it is another kind of file"
) -> tuple[dict[str, Any], dict[str, LazyTensor]]:
    """The content of a checkpoint, and the weights in one of its entries.

    Args:
        file (`TorchFile`): the checkpoint.
        entry (`str`, defaults to `"model"`): fairseq's name of the weights; vocoders have `"generator"`.
        hint (`str`): what to do where there is no such entry.

    Raises:
        ConversionError: there is no such entry, or it holds anything but tensors.
    """
    content = file.content
    state = content.get(entry) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state:
        keys = sorted(str(key)[:40] for key in content)[:8] if isinstance(content, dict) else type(content).__name__
        raise ConversionError(f"{file.name} has no weights in '{entry}': {keys}", hint=hint)
    for key, tensor in state.items():
        if not isinstance(key, str) or not isinstance(tensor, LazyTensor):
            raise ConversionError(f"{file.name} holds {str(key)[:100]} in '{entry}', which is no tensor")
    return content, state


def check_repeats(file: TorchFile, key: str, others: Iterable[str], *, hint: str) -> None:
    """Refuse weights that should be one another and are not.

    Args:
        file (`TorchFile`): the checkpoint.
        key (`str`): of the weight that is kept.
        others (`Iterable[str]`): of those that are left out because they are the same.
        hint (`str`): why they should be.

    Raises:
        ConversionError: one of them differs.
    """
    others = list(others)
    if not others:
        return
    state = file.content["model"]
    kept = file.read(state[key]).clone()
    for other in others:
        repeated = file.read(state[other])
        if repeated.shape != kept.shape or not torch.equal(repeated, kept):
            raise ConversionError(f"{other} in {file.name} differs from {key}", hint=hint)


def weight_reader(
    file: TorchFile, key: str, tensor: LazyTensor, dtype: torch.dtype, rows: slice | None = None
) -> Callable[[], Tensor]:
    """A function that reads one weight when it is called.

    Args:
        file (`TorchFile`): the checkpoint.
        key (`str`): the weight's name in it, for the message.
        tensor (`LazyTensor`): the weight.
        dtype (`torch.dtype`): what it is rounded to.
        rows (`slice`, *optional*): only these rows.

    Returns:
        `Callable[[], Tensor]`: raises `ConversionError` where the values are no finite floating numbers of `dtype`.
    """

    def read() -> Tensor:
        values = file.read(tensor)
        values = values if rows is None else values[rows]
        if not values.is_floating_point():
            raise ConversionError(f"{key} in {file.name} is of type {values.dtype}, no weight")
        rounded = values.to(dtype)
        if not bool(torch.isfinite(rounded).all()):
            reason = "NaN or infinite values" if not bool(torch.isfinite(values).all()) else f"values beyond {dtype}"
            raise ConversionError(f"{key} in {file.name} holds {reason}")
        return rounded

    return read
