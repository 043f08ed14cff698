"""The convolutions of a HuBERT-like encoder, row by row and block by block."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .frame_geometry import FrameGeometry
from .masked_group_norm import fold_group_norm

__all__ = ["BLOCK_FRAMES", "conv_features"]

# Frames computed at once. Of 25 to 400 on one CPU core with HuBERT base, 100 to 150 were fastest: 0.73 times the time
# of a 10 s row at once, whose activations fit no cache. On other devices larger blocks keep the device busy.
BLOCK_FRAMES = {"cpu": 150}
_DEFAULT_BLOCK_FRAMES = 3000


def conv_features(layers: Any, geometry: FrameGeometry, samples: Tensor) -> Tensor:
    """Output of the convolutions for one row.

    The layers have no padding, so blocks of frames with the samples that they see give the same result as the whole
    row, in memory that does not grow with its length.

    Args:
        layers (`nn.ModuleList`): `feature_extractor.conv_layers` of the encoder.
        geometry (`FrameGeometry`): its kernels and strides.
        samples (`Tensor` of shape `(S,)`, float32): the real samples, at least one frame.

    Returns:
        `Tensor` of shape `(T, D)`, float32.
    """
    first = layers[0]
    norm = getattr(first, "layer_norm", None)
    weight = bias = None
    if isinstance(norm, nn.GroupNorm):
        weight, bias = fold_group_norm(samples, first.conv, norm)
    num_frames = geometry.num_frames(samples.shape[0])
    hop, receptive_field = geometry.hop_samples, geometry.min_samples
    block_frames = BLOCK_FRAMES.get(samples.device.type, _DEFAULT_BLOCK_FRAMES)
    blocks = []
    for start in range(0, num_frames, block_frames):
        stop = min(num_frames, start + block_frames)
        hidden_states = samples[None, None, hop * start : hop * (stop - 1) + receptive_field]
        if weight is not None:
            hidden_states = first.activation(F.conv1d(hidden_states, weight, bias, stride=first.conv.stride))
        else:
            hidden_states = first(hidden_states)
        for layer in layers[1:]:
            hidden_states = layer(hidden_states)
        blocks.append(hidden_states[0].T)
    return torch.cat(blocks)
