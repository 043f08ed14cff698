"""Speech encoders up to one hidden layer, exact in padded batches."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..core.digest import sha256_of_json, sha256_of_tensors
from ..core.errors import ConfigurationError
from .frame_geometry import FrameGeometry
from .masked_group_norm import MaskedGroupNorm

__all__ = ["DenseModel", "WaveDenseModel"]

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
    def extract(self, values: Tensor, num_samples: Sequence[int]) -> list[Tensor]:
        """Hidden states of every row.

        Args:
            values (`Tensor` of shape `(B, S)`, float32): samples, zero-padded on the right.
            num_samples (`Sequence[int]` of length B): real samples, each at least one frame.

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
        model (`PreTrainedModel`): the encoder; it is changed in place (cut, in float32, in evaluation mode).
        layer (`int`): index into `hidden_states`.

    Raises:
        ConfigurationError: the layer does not exist, or the model is no such encoder.
    """

    def __init__(self, model: Any, layer: int) -> None:
        super().__init__()
        if not all(hasattr(model, name) for name in ("feature_extractor", "feature_projection", "encoder")):
            raise ConfigurationError(
                f"{type(model).__name__} is no encoder of waveforms like HuBERT",
                hint="HuBERT, wav2vec 2.0, WavLM, UniSpeech, data2vec-audio and Whisper encoders are known",
            )
        check_layer(layer, len(model.encoder.layers))
        self.config = model.config
        self.layer = layer
        self.geometry = FrameGeometry.from_config(model.config)
        model.encoder.layers = model.encoder.layers[:layer]
        model.config.num_hidden_layers = layer
        self.has_final_norm = bool(getattr(model.config, "do_stable_layer_norm", False))
        first = model.feature_extractor.conv_layers[0]
        self.group_norm: MaskedGroupNorm | None = None
        if isinstance(getattr(first, "layer_norm", None), nn.GroupNorm):
            self.group_norm = MaskedGroupNorm(first.layer_norm)
            first.layer_norm = self.group_norm
        self.model = model.float().eval().requires_grad_(False)

    @property
    def feature_size(self) -> int:
        """Width F of a hidden state."""
        return int(self.config.hidden_size)

    def extract(self, values: Tensor, num_samples: Sequence[int]) -> list[Tensor]:
        """Hidden states of every row, each equal to those of the row alone."""
        num_frames = [self.geometry.num_frames(samples) for samples in num_samples]
        if self.group_norm is not None:
            self.group_norm.num_frames = [self.geometry.frames_after(samples, 1) for samples in num_samples]
        frames = self.model.feature_extractor(values).transpose(1, 2)
        projected = self.model.feature_projection(frames)
        if isinstance(projected, tuple):  # wav2vec 2.0 and WavLM also return what their quantizer reads
            projected = projected[0]
        mask = None
        if any(count != projected.shape[1] for count in num_frames):
            positions = torch.arange(projected.shape[1], device=projected.device)
            mask = positions < torch.tensor(num_frames, device=projected.device)[:, None]
        hidden_states = self._encode(projected, mask)
        return [hidden_states[row, :count] for row, count in enumerate(num_frames)]

    def _encode(self, projected: Tensor, mask: Tensor | None) -> Tensor:
        encoder = self.model.encoder
        if not self.has_final_norm:
            return encoder(projected, attention_mask=mask)[0]
        final_norm = encoder.layer_norm
        encoder.layer_norm = nn.Identity()
        try:
            return encoder(projected, attention_mask=mask)[0]
        finally:
            encoder.layer_norm = final_norm

    def used_tensors(self) -> dict[str, Tensor]:
        """The weights that the features depend on."""
        unused = ("masked_spec_embed", "encoder.layer_norm.") if self.has_final_norm else ("masked_spec_embed",)
        return {name: tensor for name, tensor in self.model.state_dict().items() if not name.startswith(unused)}

    def save(self, folder: str | Path) -> None:
        """Write the cut encoder for `AutoModel`."""
        os.makedirs(folder, exist_ok=True)
        self.model.save_pretrained(folder)
