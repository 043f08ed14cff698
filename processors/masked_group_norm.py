"""HuBERT base's group norm, folded into its first convolution: exact in any batch, and free.

HuBERT base normalises each channel of its first convolution over time. Over a padded batch that mixes the padding into
every frame of the shorter rows: one second padded to three changes 59 % of the units. The statistics of a row's real
frames follow from its samples alone, because a convolution is linear: with `μ` and `Σ` the mean and covariance of the
row's windows and `w` the weights of a channel, its mean over time is `w·μ` and its variance `wᵀΣw`. So the statistics
cost one small matrix a row, and normalisation becomes a convolution with that row's own weights and bias, which needs
no pass over the row's activations and may run block by block.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["fold_group_norm"]


def fold_group_norm(samples: Tensor, conv: nn.Conv1d, norm: nn.GroupNorm) -> tuple[Tensor, Tensor]:
    """Weights and bias of one convolution that equals `norm(conv(samples))` over the whole row.

    Args:
        samples (`Tensor` of shape `(S,)`, float32): the real samples of one row, at least one kernel.
        conv (`nn.Conv1d`): first layer, one input channel, D output channels, no padding.
        norm (`nn.GroupNorm`): one group a channel, so that statistics are over time.

    Returns:
        `tuple[Tensor, Tensor]`: weight `(D, 1, kernel)` and bias `(D,)`, float32. A bias of `conv` has no effect, the
        norm takes it away.
    """
    # MPS has no float64.
    dtype = torch.float32 if samples.device.type == "mps" else torch.float64
    windows = samples.unfold(0, conv.kernel_size[0], conv.stride[0]).to(dtype)
    mean = windows.mean(dim=0)
    centred = windows - mean
    covariance = centred.T @ centred / windows.shape[0]
    weight = conv.weight[:, 0].to(dtype)
    variance = ((weight @ covariance) * weight).sum(dim=1).clamp_min(0)
    scale = norm.weight.to(dtype) * torch.rsqrt(variance + norm.eps)
    bias = norm.bias.to(dtype) - (weight @ mean) * scale
    return (weight * scale[:, None])[:, None].to(conv.weight.dtype), bias.to(conv.weight.dtype)
