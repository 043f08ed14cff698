"""Encoders and centroids from folders and the Hub."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from ..core.errors import ConfigurationError
from ..core.files import read_json
from ..core.locations import reading
from .dense_model import DenseModel, WaveDenseModel, without_progress_bar
from .dense_whisper import WhisperDenseModel
from .quantizer import Quantizer

__all__ = ["check_processor_config", "dense_model_from", "load_dense_model", "load_quantizer"]


def check_processor_config(location: str) -> None:
    """Refuse a folder whose `processor_config.json` holds other things than the blocks of a processor.

    Args:
        location (`str`): folder; nothing is checked of a Hub id, or where there is no such file.

    Raises:
        ConfigurationError: the file is no JSON object, or a block of it is none; the message names it.
    """
    path = os.path.join(location, "processor_config.json")
    if not os.path.isfile(path):
        return
    values = read_json(path)
    blocks = {"": values} if not isinstance(values, dict) else values
    for name in ("", "feature_extractor", "unit_encoder"):
        if not isinstance(blocks.get(name, {}), dict):
            what = f"{name} in {path}" if name else path
            raise ConfigurationError(
                f"{what} is no JSON object but {blocks[name]!r:.60}", hint="the file is damaged: copy or save it again"
            )


def dense_model_from(model: Any, layer: int, *, revision: str | None = None) -> DenseModel:
    """The dense model of a transformers model.

    Args:
        model (`PreTrainedModel | DenseModel | str`): an encoder, a model that contains one, or a name that `AutoModel`
            loads.
        layer (`int`): index into `hidden_states`.
        revision (`str`, *optional*): of a name on the Hub.

    Raises:
        ConfigurationError: there is no such model, it is no known encoder, or it has no such layer.
    """
    if isinstance(model, DenseModel):
        if model.layer != layer:
            raise ConfigurationError(f"layer {layer} of a dense model that ends at layer {model.layer}")
        return model
    if isinstance(model, str | os.PathLike):
        from transformers import AutoModel

        with reading(model, ConfigurationError, "the encoder"):
            model = AutoModel.from_pretrained(model, dtype=torch.float32, revision=revision or "main")
    model_type = getattr(model.config, "model_type", None)
    if model_type == "whisper":
        encoder = model if hasattr(model, "embed_positions") else model.get_encoder()
        return WhisperDenseModel(encoder, layer)
    return WaveDenseModel(getattr(model, getattr(model, "base_model_prefix", ""), model), layer)


def load_dense_model(location: str, subfolder: str, layer: int, options: dict[str, Any]) -> DenseModel:
    """Read `location/subfolder`, a folder or a Hub repository, in float32.

    Raises:
        ConfigurationError: there is no encoder, or its files are damaged.
    """
    from transformers import MODEL_MAPPING, AutoConfig

    name = location
    if os.path.isdir(location):
        # The folder itself, not a sub-folder: the Auto classes look for adapters in what they are given.
        name = os.path.join(location, subfolder)
        if not os.path.isfile(os.path.join(name, "config.json")):
            raise ConfigurationError(
                f"{location} has no {subfolder}/config.json",
                hint="a base folder holds encoder/ and quantizer.safetensors; see SpeechUnitProcessor.save_pretrained",
            )
    else:
        options = {**options, "subfolder": subfolder}
    with reading(name, ConfigurationError, "the encoder"):
        config = AutoConfig.from_pretrained(name, **options)
    if config.model_type == "whisper" and "WhisperEncoder" in (config.architectures or []):
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        model_class: Any = WhisperEncoder
    else:
        model_class = MODEL_MAPPING[type(config)]
    with reading(name, ConfigurationError, "the encoder"), without_progress_bar():
        model = model_class.from_pretrained(name, config=config, dtype=torch.float32, **options)
    return dense_model_from(model, layer)


def load_quantizer(location: str, file_name: str, options: dict[str, Any]) -> Quantizer:
    """Read the centroids of a folder or a Hub repository.

    Raises:
        ConfigurationError: there are none, or the file is damaged.
    """
    if os.path.isdir(location):
        path = Path(location) / file_name
        if not path.is_file():
            raise ConfigurationError(f"{location} has no {file_name}", hint="fit one with `speechprompt quantize`")
        return _read_quantizer(path)
    from transformers.utils import cached_file

    with reading(location, ConfigurationError, "the quantizer"):
        resolved = cached_file(location, file_name, **options)
    assert resolved is not None  # cached_file raises where the file is missing
    return _read_quantizer(resolved)


def _read_quantizer(path: str | os.PathLike[str]) -> Quantizer:
    with reading(path, ConfigurationError, "the quantizer"):
        return Quantizer.load(Path(path))
