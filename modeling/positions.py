"""Sinusoidal positions that count real tokens only: padding and prompts have none."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["NO_POSITION", "SinusoidalPositions", "count_positions"]

NO_POSITION = -1
"""Position of padding and prompt columns; its row of the table is zero."""


def count_positions(
    attention_mask: Tensor | None,
    *,
    past_length: int,
    num_tokens: int,
    num_prompt_columns: int = 0,
    mask_covers_prompt: bool = True,
) -> Tensor:
    """Position of each new token: the number of real tokens before it.

    Args:
        attention_mask (`Tensor` of shape `(B, past + N)`, *optional*): 1 for real columns, 0 for padding; any dtype.
        past_length (`int`): columns in the cache.
        num_tokens (`int`): new columns N.
        num_prompt_columns (`int`, defaults to 0): leading columns that are prompts; they are not counted whatever the
            mask says.
        mask_covers_prompt (`bool`, defaults to `True`): the mask has columns for the prompt.

    Returns:
        `LongTensor` of shape `(B, N)` (or `(1, N)` without a mask): positions from 0, `NO_POSITION` for padding and
        prompts.
    """
    if attention_mask is None:
        positions = torch.arange(past_length, past_length + num_tokens).unsqueeze(0) - num_prompt_columns
        return positions.clamp(min=NO_POSITION)
    real = attention_mask.ne(0).long()
    if num_prompt_columns and mask_covers_prompt:
        real[:, :num_prompt_columns] = 0
    positions = (real.cumsum(1) - 1).masked_fill(real == 0, NO_POSITION)
    return positions[:, -num_tokens:]


class SinusoidalPositions(nn.Module):
    """fairseq's sinusoidal position table: position p (from 0) is row p + 2, row 1 is zero.

    Args:
        num_positions (`int`): rows made at once; the table grows when a longer sequence comes.
        hidden_size (`int`): width D, even.

    Source:
        fairseq `modules/sinusoidal_positional_embedding.py`: sines in the first half, cosines in the second,
        frequencies 10000^(-i / (D/2 - 1)); `padding_idx=1`.
    """

    offset = 2
    padding_row = 1
    table: Tensor

    def __init__(self, num_positions: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.num_positions = num_positions
        self.register_buffer("table", self.make_table(num_positions + self.offset, hidden_size), persistent=False)

    @classmethod
    def make_table(cls, num_rows: int, hidden_size: int) -> Tensor:
        """The first rows of the table, float32 of shape `(num_rows, D)`."""
        half = hidden_size // 2
        frequencies = torch.exp(torch.arange(half).float() * -(math.log(10000) / (half - 1)))
        angles = torch.arange(num_rows).float().unsqueeze(1) * frequencies.unsqueeze(0)
        table = torch.cat([angles.sin(), angles.cos()], dim=1)
        table[cls.padding_row] = 0
        return table

    def forward(self, positions: Tensor, num_needed: int) -> Tensor:
        """Vectors of positions.

        Args:
            positions (`LongTensor` of shape `(B, N)`): positions from 0, `NO_POSITION` for a zero vector.
            num_needed (`int`): every position is below this number.

        Returns:
            `Tensor` of shape `(B, N, D)` in the dtype of the table.
        """
        if num_needed + self.offset > self.table.shape[0]:
            longer = self.make_table(2 * num_needed + self.offset, self.hidden_size)
            self.table = longer.to(device=self.table.device, dtype=self.table.dtype)
        return self.table[positions.to(self.table.device) + self.offset]
