"""Unit vocoders of fairseq and speech-resynthesis → folders that `UnitHifiGan` opens."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..core.conversion import CONVERSION_FILE
from ..core.digest import sha256_of_file
from ..core.files import write_json
from .checkpoint_weights import DTYPES, checked_content
from .errors import ConversionError
from .file_kinds import expecting
from .hifigan_keys import VocoderPart, plan_vocoder
from .hifigan_settings import read_vocoder_settings
from .new_folder import new_folder
from .torch_file import TorchFile, open_torch_file
from .torch_names import LazyTensor
from .weights_file import PendingTensor, write_weights

__all__ = ["convert_hifigan"]

_WEIGHTS = "generator"
_HINT = "give the generator's checkpoint, g_00500000 and its like; do_... holds the discriminators"


def convert_hifigan(
    source: str | Path,
    destination: str | Path,
    config: str | Path,
    *,
    dtype: Literal["float32", "float16"] = "float32",
) -> dict[str, Any]:
    """Make a `UnitHifiGan` folder of a vocoder of fairseq; nothing in it is executed.

    Weight norm is folded into the weights.

    Args:
        source (`str | Path`): for example `g_00500000`, which holds the weights in `generator`.
        destination (`str | Path`): the new folder: `config.json`, `model.safetensors`, and `conversion.json`, which
            says what became of what.
        config (`str | Path`): fairseq's `config.json`, which lies beside the weights and says their sizes.
        dtype (`str`, defaults to `"float32"`): precision of the weights.

    Returns:
        `dict`: the content of `conversion.json`, and `output`.

    Raises:
        ConversionError: a file is damaged, hostile, of another architecture or vocabulary; nothing is left behind.
    """
    if dtype not in DTYPES:
        raise ConversionError(f"dtype is {dtype!r}", hint="float32 or float16")
    with expecting("hifigan", source), new_folder(destination) as folder, open_torch_file(source) as file:
        settings = read_vocoder_settings(config)
        content, state = checked_content(file, _WEIGHTS, hint=_HINT)
        parts = plan_vocoder(state, settings.config, file.name)
        pending = {
            target: PendingTensor(part.tensor.shape, _reader(file, part, DTYPES[dtype]))
            for target, part in parts.items()
        }
        write_weights(folder / "model.safetensors", pending, DTYPES[dtype])
        settings.config.architectures = ["UnitHifiGan"]
        settings.config.dtype = dtype
        settings.config.save_pretrained(folder)
        record = {
            "source": Path(source).name,
            "source_sha256": sha256_of_file(source),
            "config_sha256": sha256_of_file(config),
            "architecture": "CodeHiFiGANVocoder",
            "dtype": dtype,
            "units": settings.config.vocab_size,
            "speakers": settings.config.num_speakers,
            "sampling_rate": settings.config.sampling_rate,
            "frame_rate": settings.config.frame_rate,
            "predicts_durations": settings.config.duration_predictor_hidden_size > 0,
            "parameters": sum(math.prod(part.tensor.shape) for part in parts.values()),
            "weight_norms_folded": sum(part.magnitude is not None for part in parts.values()),
            "keys_left_out": {},
            "entries_left_out": sorted(str(key)[:100] for key in content if key != "generator"),
            "settings_left_out": list(settings.left_out),
            "settings_not_known": list(settings.not_known),
        }
        write_json(folder / CONVERSION_FILE, record)
    return {"output": str(destination), **record}


def _reader(file: TorchFile, part: VocoderPart, dtype: torch.dtype) -> Callable[[], Tensor]:
    def read() -> Tensor:
        values = _checked(file, part.tensor, part.key)
        if part.magnitude is not None:
            values = _folded(_checked(file, part.magnitude, f"the magnitude of {part.key}"), values)
            _check_finite(values, f"{part.key} in {file.name} makes NaN or infinite values under its weight norm")
        rounded = values.to(dtype)
        _check_finite(rounded, f"{part.key} in {file.name} holds values beyond {dtype}")
        return rounded

    return read


def _checked(file: TorchFile, tensor: LazyTensor, what: str) -> Tensor:
    values = file.read(tensor)
    if not values.is_floating_point():
        raise ConversionError(f"{what} in {file.name} is of type {values.dtype}, no weight")
    _check_finite(values, f"{what} in {file.name} holds NaN or infinite values")
    return values


def _check_finite(values: Tensor, message: str) -> None:
    if not bool(torch.isfinite(values).all()):
        raise ConversionError(message)


def _folded(magnitude: Tensor, direction: Tensor) -> Tensor:
    """The weight `g v / ‖v‖`, with norms over all axes but the first."""
    wide = torch.float64 if direction.dtype == torch.float64 else torch.float32
    magnitude, direction = magnitude.to(wide), direction.to(wide)
    norms = torch.linalg.vector_norm(direction, dim=tuple(range(1, direction.dim())), keepdim=True)
    return direction * (magnitude / norms)
