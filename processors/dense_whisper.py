"""Whisper's encoder as a dense model: mel features of windows of fixed length."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .dense_model import DenseModel, check_layer, with_children, without_progress_bar
from .frame_geometry import FrameGeometry

__all__ = ["WhisperDenseModel"]


class WhisperDenseModel(DenseModel):
    """Whisper's encoder up to one layer, on windows of `max_source_positions` frames (30 s).

    Every window is filled up with silence as in training, and only the frames that lie wholly inside the recording
    are kept: `floor(S / 320)` of S samples. As in transformers, the last entry of `hidden_states` is the one after the
    final layer norm, all others are before it.

    Args:
        encoder (`WhisperEncoder`): its weights are shared, converted to float32 and put in evaluation mode.
        layer (`int`): index into `hidden_states`.

    Raises:
        ConfigurationError: the layer does not exist.
    """

    def __init__(self, encoder: Any, layer: int) -> None:
        super().__init__()
        from transformers import WhisperFeatureExtractor

        check_layer(layer, len(encoder.layers))
        self.layer = layer
        self.is_last = layer == len(encoder.layers)
        encoder.float().eval()
        # One layer more than is needed stays: hidden_states[layer] of a saved encoder is then still before the norm.
        self.encoder = with_children(encoder, layers=encoder.layers[: layer + 1])
        self.config = copy.deepcopy(encoder.config)
        self.config.encoder_layers = len(self.encoder.layers)
        self.encoder.config = self.config
        mel_hop, rate = 160, 16000
        hop = mel_hop * encoder.conv1.stride[0] * encoder.conv2.stride[0]
        self.window_samples = encoder.config.max_source_positions * hop
        self.geometry = FrameGeometry((hop,), (hop,))
        self.mel = WhisperFeatureExtractor(
            feature_size=encoder.config.num_mel_bins,
            sampling_rate=rate,
            hop_length=mel_hop,
            # The extractor counts whole seconds; shorter windows (tests) are cut from its output.
            chunk_length=-(-self.window_samples // rate),
        )

    @property
    def feature_size(self) -> int:
        """Width F of a hidden state."""
        return int(self.config.d_model)

    @property
    def max_chunk_samples(self) -> int | None:
        """Samples of one window."""
        return int(self.window_samples)

    @torch.no_grad()
    def extract(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """Hidden states of every row; batches are exact, because every row is filled up to a whole window."""
        waveforms = [row[: self.window_samples].cpu().numpy() for row in rows]
        mel = self.mel(waveforms, sampling_rate=self.mel.sampling_rate, return_tensors="pt").input_features
        steps = self.window_samples // self.mel.hop_length
        hidden_states = self._encode(mel[:, :, :steps].to(self.device, torch.float32))
        counts = [self.geometry.num_frames(len(waveform)) for waveform in waveforms]
        return [hidden_states[row, :count] for row, count in enumerate(counts)]

    def _encode(self, mel: Tensor) -> Tensor:
        encoder: Any = self.encoder
        hidden_states = F.gelu(encoder.conv2(F.gelu(encoder.conv1(mel)))).permute(0, 2, 1)
        hidden_states = hidden_states + encoder.embed_positions.weight
        for layer in encoder.layers[: self.layer]:
            output = layer(hidden_states, None)
            hidden_states = output[0] if isinstance(output, tuple) else output
        return encoder.layer_norm(hidden_states) if self.is_last else hidden_states

    def used_tensors(self) -> dict[str, Tensor]:
        """The weights that the features depend on."""
        unused = [f"layers.{index}." for index in range(self.layer, len(self.encoder.layers))]
        if not self.is_last:
            unused.append("layer_norm.")
        return {
            name: tensor for name, tensor in self.encoder.state_dict().items() if not name.startswith(tuple(unused))
        }

    def save(self, folder: str | Path) -> None:
        """Write the cut encoder for `WhisperEncoder.from_pretrained`."""
        encoder: Any = self.encoder
        with without_progress_bar():
            encoder.save_pretrained(folder)
