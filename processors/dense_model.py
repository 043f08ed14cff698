"""Speech encoders up to one hidden layer, exact in padded batches."""

from __future__ import annotations

import copy
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..core.digest import sha256_of_json, sha256_of_tensors
from ..core.errors import ConfigurationError
from .conv_stack import conv_features
from .frame_geometry import FrameGeometry
from .positional_conv import FftPositionalConv

__all__ = ["WAVE_MODEL_TYPES", "DenseModel", "WaveDenseModel", "check_layer", "with_children", "without_progress_bar"]

WAVE_MODEL_TYPES = ("hubert", "wav2vec2", "wavlm", "unispeech", "unispeech-sat", "data2vec-audio")

# What changes features although the weights stay the same.
_ARCHITECTURE_KEYS = (
    "model_type",
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "layer_norm_eps",
    "conv_dim",
    "conv_kernel",
    "conv_stride",
    "conv_bias",
    "feat_extract_norm",
    "feat_extract_activation",
    "feat_proj_layer_norm",
    "do_stable_layer_norm",
    "num_conv_pos_embeddings",
    "num_conv_pos_embedding_groups",
    "conv_pos_kernel_size",
    "conv_pos_batch_norm",
    "position_embeddings_type",
    "num_buckets",
    "max_bucket_distance",
    "activation_function",
    "encoder_attention_heads",
    "num_mel_bins",
    "max_source_positions",
    "scale_embedding",
)


class DenseModel(nn.Module, ABC):
    """A frozen encoder that turns samples into the hidden states of one layer."""

    geometry: FrameGeometry
    layer: int
    config: Any

    @property
    @abstractmethod
    def feature_size(self) -> int:
        """Width F of a hidden state."""

    @property
    def max_chunk_samples(self) -> int | None:
        """Most samples the encoder can take at once; `None` for any number."""
        return None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @abstractmethod
    def extract(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """Hidden states of every row, each equal to those of the row alone.

        Args:
            rows (`Sequence[Tensor]`, each of shape `(S,)`, float32): real samples, at least one frame each, on the
                weights' device.

        Returns:
            `list[Tensor]`: per row, float32 of shape `(T, F)`.
        """

    @abstractmethod
    def used_tensors(self) -> dict[str, Tensor]:
        """The weights that the features depend on, by name; none of the layers above `layer`."""

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors that transformers' own class loads; layers above are left out."""

    @property
    def sha256(self) -> str:
        """Hash of the architecture and of the float32 weights up to `layer`.

        It is the same for the whole encoder and for one cut at `layer`, and for weights stored in half precision and
        the same weights loaded in float32.
        """
        architecture = {key: getattr(self.config, key, None) for key in _ARCHITECTURE_KEYS}
        architecture = {key: list(value) if isinstance(value, tuple) else value for key, value in architecture.items()}
        return sha256_of_json([architecture, sha256_of_tensors(self.used_tensors())])


@contextmanager
def without_progress_bar() -> Iterator[None]:
    """No bar for reading and writing a small encoder: it would hide the user's own."""
    from transformers.utils import logging

    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()


def with_children(module: Any, **children: nn.Module) -> Any:
    """A copy of a module that shares everything with it but the named children."""
    clone = copy.copy(module)
    clone.__dict__["_modules"] = {**module._modules, **children}
    return clone


def check_layer(layer: int, num_layers: int) -> None:
    """Refuse a hidden layer that the encoder lacks."""
    if not 0 <= layer <= num_layers:
        raise ConfigurationError(
            f"layer {layer} of an encoder with {num_layers} layers",
            hint=f"layer 0 is the input of the first layer, {num_layers} the output of the last",
        )


class WaveDenseModel(DenseModel):
    """HuBERT, wav2vec 2.0, WavLM and their kin, cut above one layer.

    The features equal `model(..., output_hidden_states=True).hidden_states[layer]` of the whole model: for encoders
    with a final layer norm (`do_stable_layer_norm`) that is the state before it, as fairseq's `output_layer` has it.

    Args:
        model (`PreTrainedModel`): the encoder. Its weights are shared, converted to float32 and put in evaluation
            mode; its layers stay as they are.
        layer (`int`): index into `hidden_states`.

    Raises:
        ConfigurationError: the layer does not exist, or the model is no such encoder.
    """

    def __init__(self, model: Any, layer: int) -> None:
        super().__init__()
        parts = ("feature_extractor", "feature_projection", "encoder")
        if model.config.model_type not in WAVE_MODEL_TYPES or not all(hasattr(model, name) for name in parts):
            raise ConfigurationError(
                f"{type(model).__name__} of type {model.config.model_type!r} is no known speech encoder",
                hint=f"known are {', '.join(WAVE_MODEL_TYPES)} and whisper",
            )
        check_layer(layer, len(model.encoder.layers))
        self.layer = layer
        self.config = copy.deepcopy(model.config)
        self.config.num_hidden_layers = layer
        self.geometry = FrameGeometry.from_config(model.config)
        self.has_final_norm = bool(getattr(model.config, "do_stable_layer_norm", False))
        model.float().eval()
        kept = with_children(model.encoder, layers=model.encoder.layers[:layer])
        # What is saved, and what runs: they share every weight.
        self.model = with_children(model, encoder=kept)
        self.model.config = self.config
        replaced: dict[str, nn.Module] = {}
        if self.has_final_norm:
            replaced["layer_norm"] = nn.Identity()
        positional: Any = getattr(model.encoder, "pos_conv_embed", None)
        # A batch norm, or a second convolution as in data2vec, makes something of the zeros in the padding, which the
        # next convolution then reads at the end of the row.
        one_conv = isinstance(getattr(positional, "conv", None), nn.Conv1d)
        self.padding_is_harmless = one_conv and getattr(positional, "batch_norm", None) is None
        if FftPositionalConv.supports(positional):
            replaced["pos_conv_embed"] = FftPositionalConv(positional)
        self.encoder = with_children(kept, **replaced)

    @property
    def feature_size(self) -> int:
        """Width F of a hidden state."""
        return int(self.config.hidden_size)

    @torch.no_grad()
    def extract(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """Hidden states of every row, each equal to those of the row alone."""
        layers = self.model.feature_extractor.conv_layers
        convolved = [conv_features(layers, self.geometry, row) for row in rows]
        if not self.padding_is_harmless:
            return [self._encode([row])[0] for row in convolved]
        return self._encode(convolved)

    def _encode(self, convolved: list[Tensor]) -> list[Tensor]:
        num_frames = [len(row) for row in convolved]
        frames = nn.utils.rnn.pad_sequence(convolved, batch_first=True)
        projected = self.model.feature_projection(frames)
        if isinstance(projected, tuple):  # wav2vec 2.0 and WavLM also return what their quantizer reads
            projected = projected[0]
        mask = None
        if min(num_frames) != projected.shape[1]:
            positions = torch.arange(projected.shape[1], device=projected.device)
            mask = positions < torch.tensor(num_frames, device=projected.device)[:, None]
        with warnings.catch_warnings() if self.config.model_type == "wavlm" else nullcontext():
            # transformers 5.24's WavLM gives torch a mask and a bias of different types; the result is right.
            if self.config.model_type == "wavlm":
                warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask and attn_mask")
            hidden_states = self.encoder(projected, attention_mask=mask)[0]
        return [hidden_states[row, :count] for row, count in enumerate(num_frames)]

    def used_tensors(self) -> dict[str, Tensor]:
        """The weights that the features depend on."""
        unused = ["masked_spec_embed"]
        if self.has_final_norm:
            unused.append("encoder.layer_norm.")
        return {name: value for name, value in self.model.state_dict().items() if not name.startswith(tuple(unused))}

    def save(self, folder: str | Path) -> None:
        """Write the cut encoder for `AutoModel`."""
        os.makedirs(folder, exist_ok=True)
        with without_progress_bar():
            self.model.save_pretrained(folder)
