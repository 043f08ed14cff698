"""The part of a deep prompt that PEFT's own table does not reach: keys and values for an encoder's self-attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["EncoderPrompt", "split_table"]


class EncoderPrompt(nn.Module):
    """Keys and values in front of those of an encoder's layers; empty until an adapter fills it.

    As a child of the encoder it exists on every base, so that PEFT can save it (`modules_to_save=["encoder_prompt"]`)
    and restore it with an adapter of any length; a base's own files never contain it.

    Args:
        num_layers (`int`): layers L of the encoder.
        width (`int`): width W of the keys, and of the values.
    """

    def __init__(self, num_layers: int, width: int) -> None:
        super().__init__()
        self.num_layers = num_layers
        self.width = width
        self.table = nn.Parameter(torch.zeros(0, 2 * num_layers * width), requires_grad=False)

    def forward(self, num_heads: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]] | None:
        """Keys and values, each a tuple of L `Tensor`s of shape `(P, H, W/H)`; `None` while it is empty."""
        return split_table(self.table, self.num_layers, num_heads) if len(self.table) else None

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        table = state_dict.get(f"{prefix}table")
        if table is not None and table.dim() == 2 and table.shape[1] == self.table.shape[1]:
            # An adapter says how many columns there are.
            empty = torch.zeros(len(table), self.table.shape[1], device=self.table.device)
            self.table = nn.Parameter(empty, requires_grad=self.table.requires_grad)
        super()._load_from_state_dict(state_dict, prefix, *args)


def split_table(table: Tensor, num_layers: int, num_heads: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Keys and values of each layer from a table as PEFT lays it out.

    Args:
        table (`Tensor` of shape `(P, 2·L·W)`): for each column the keys and values of each layer in turn.
        num_layers (`int`): layers L.
        num_heads (`int`): heads H of keys and values.

    Returns:
        `tuple`: keys and values, each a tuple of L `Tensor`s of shape `(P, H, W/H)`.
    """
    parts = table.unflatten(1, (num_layers, 2, num_heads, -1))
    return tuple(parts[:, :, 0].unbind(1)), tuple(parts[:, :, 1].unbind(1))
