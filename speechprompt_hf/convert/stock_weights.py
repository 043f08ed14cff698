"""Weights of a transformers folder, safetensors or `torch.save`, whole or in shards, one tensor at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.errors import AdapterError
from ..modeling.stock_unit_lm_weights import StockTensor, open_safetensors
from ..modeling.untrusted import read_config_file
from .errors import ConversionError
from .torch_file import TorchFile, open_torch_file
from .torch_names import LazyTensor

__all__ = ["open_stock_weights", "read_stock_json"]

_WHOLE = ("model.safetensors", "pytorch_model.bin")


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
        for path in _files(folder):
            if path.suffix == ".safetensors":
                found = stack.enter_context(open_safetensors([str(path)]))
            else:
                found = _torch_tensors(stack.enter_context(open_torch_file(path)))
            for key, tensor in found.items():
                if key in tensors:
                    raise ConversionError(f"{key} is in two files of {folder}", hint="download the folder again")
                tensors[key] = StockTensor(key, tensor.shape, _checked(tensor, path))
        yield tensors


def _files(folder: Path) -> list[Path]:
    for name in _WHOLE:
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            parts = read_stock_json(index).get("weight_map")
            if not isinstance(parts, dict) or not all(
                isinstance(part, str) and part == Path(part).name and part.endswith(Path(name).suffix)
                for part in parts.values()
            ):
                raise ConversionError(f"weight_map in {index} is no object of file names")
            paths = [folder / part for part in sorted(set(parts.values()))]
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


def _checked(tensor: StockTensor, path: Path) -> Callable[[], Tensor]:
    """The tensor, as floating numbers that are finite."""

    def read() -> Tensor:
        values = tensor.read()
        if not values.is_floating_point():
            raise ConversionError(f"{tensor.key} in {path} is of type {values.dtype}, no weight")
        if not bool(torch.isfinite(values).all()):
            raise ConversionError(f"{tensor.key} in {path} holds NaN or infinite values")
        return values

    return read
