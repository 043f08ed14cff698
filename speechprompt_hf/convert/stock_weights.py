"""Weights of a transformers folder, safetensors or `torch.save`, whole or in shards, one tensor at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.errors import AdapterError
from ..modeling.base_files import shard_names
from ..modeling.stock_unit_lm_weights import StockTensor, open_safetensors
from ..modeling.untrusted import read_config_file
from .errors import ConversionError
from .torch_file import TorchFile, open_torch_file
from .torch_names import LazyTensor

__all__ = ["open_stock_weights", "read_stock_json", "stock_weight_files"]

_WHOLE = ("model.safetensors", "pytorch_model.bin")
_BLOCK = 2**20


def read_stock_json(path: Path) -> dict[str, Any]:
    """A JSON object of bounded size.

    Raises:
        ConversionError: there is none, or it is too large, no JSON, or no object.
    """
    if not path.is_file():
        raise ConversionError(f"there is no {path}", hint="give a folder that transformers saved")
    try:
        return read_config_file(path)
    except AdapterError as error:
        raise ConversionError(Exception.__str__(error), hint="it is damaged: copy or download it again") from error


@contextmanager
def open_stock_weights(folder: Path) -> Iterator[dict[str, StockTensor]]:
    """Open the weights of a folder.

    Args:
        folder (`Path`): with `model.safetensors` or `pytorch_model.bin`, or the index of their shards.

    Yields:
        `dict[str, StockTensor]`: tensors by their names; pickles among the files are read and not executed.

    Raises:
        ConversionError: there are no weights, or a file is damaged or hostile.
    """
    with ExitStack() as stack:
        tensors: dict[str, StockTensor] = {}
        for path in stock_weight_files(folder):
            if path.suffix == ".safetensors":
                found = stack.enter_context(open_safetensors([str(path)]))
            else:
                found = _torch_tensors(stack.enter_context(open_torch_file(path)))
            for key, tensor in found.items():
                if key in tensors:
                    raise ConversionError(f"{key} is in two files of {folder}", hint="download the folder again")
                tensors[key] = _checked(tensor, path)
        yield tensors


def stock_weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights of a folder.

    Args:
        folder (`Path`): as in [`open_stock_weights`].

    Raises:
        ConversionError: there are none, one is missing, or the index of the shards is damaged.
    """
    for name in _WHOLE:
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            try:
                parts = shard_names(read_stock_json(index), Path(name).suffix, str(index))
            except AdapterError as error:
                raise ConversionError(Exception.__str__(error), hint=error.hint) from error
            paths = [folder / part for part in parts]
            missing = [path.name for path in paths if not path.is_file()]
            if missing:
                raise ConversionError(f"{folder} lacks {missing[0]}", hint="download it completely")
            return paths
    raise ConversionError(f"{folder} has no weights", hint=f"{' or '.join(_WHOLE)}, or the index of their shards")


def _torch_tensors(file: TorchFile) -> dict[str, StockTensor]:
    if not isinstance(file.content, dict):
        raise ConversionError(f"{file.name} holds {type(file.content).__name__}, no weights")
    tensors = {}
    for key, lazy in file.content.items():
        if not isinstance(key, str) or not isinstance(lazy, LazyTensor):
            raise ConversionError(f"{str(key)[:100]} in {file.name} is no tensor", hint="it holds more than weights")
        tensors[key] = StockTensor(key, tuple(lazy.shape), _reader(file, lazy))
    return tensors


def _reader(file: TorchFile, lazy: LazyTensor) -> Callable[[], Tensor]:
    return lambda: file.read(lazy)


def _checked(tensor: StockTensor, path: Path) -> StockTensor:
    """The tensor, as floating numbers that are finite."""

    def checked(values: Tensor) -> Tensor:
        if not values.is_floating_point():
            raise ConversionError(f"{tensor.key} in {path} is of type {values.dtype}, no weight")
        # In blocks: what compares a whole tensor is as large as the tensor itself.
        if not all(bool(torch.isfinite(block).all()) for block in values.reshape(-1).split(_BLOCK)):
            raise ConversionError(f"{tensor.key} in {path} holds NaN or infinite values")
        return values

    return StockTensor(
        tensor.key,
        tensor.shape,
        lambda: checked(tensor.read()),
        lambda first, end: checked(tensor.rows(first, end)),
    )
