"""What the columns of a pass are in a wrapped language model: prompts, padding, the start, tokens with positions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..core.errors import ConfigurationError
from .positions import NO_POSITION
from .prompt_states import PromptStates

__all__ = [
    "Columns",
    "find_columns",
    "hide_start",
    "let_start_see_itself",
    "pad_positions",
    "without_positions",
]


@dataclass(frozen=True)
class Columns:
    """Columns of the cache and of this pass, without a deep prompt's.

    Attributes:
        visible (`BoolTensor` of shape `(B, past + N)`): what later tokens see.
        positions (`LongTensor` of shape `(B, N)`): of the columns of this pass, `NO_POSITION` for what has none.
        start (`LongTensor` of shape `(B,)`, *optional*): the column of the start token that a model without one does
            not see.
    """

    visible: Tensor
    positions: Tensor
    start: Tensor | None


def hide_start(visible: Tensor, num_front: int = 0) -> tuple[Tensor, Tensor]:
    """Hide the first real column, the start token, from a model that was trained without one.

    Args:
        visible (`BoolTensor` of shape `(B, M)`): real columns.
        num_front (`int`, defaults to 0): leading columns that are prompts.

    Returns:
        `tuple[BoolTensor, LongTensor]`: what is left, and the hidden column of each row, of shape `(B,)`.
    """
    start = visible[:, num_front:].long().argmax(1) + num_front
    return visible.scatter(1, start.unsqueeze(1), False), start


def find_columns(
    attention_mask: Tensor | None,
    *,
    batch_size: int,
    past: int,
    num_columns: int,
    num_front: int,
    prompt: PromptStates | None,
    has_start_token: bool,
    device: torch.device,
) -> Columns:
    """Columns and positions by a mask of tokens.

    Args:
        attention_mask (`Tensor` of shape `(B, M)`, *optional*): 1 for real columns; without those of
            `prompt.inputs`, with those of a prompt that came in a cache or among the input vectors.
        batch_size (`int`): rows B.
        past (`int`): columns in the cache.
        num_columns (`int`): columns N of this pass, with those of input prompts.
        num_front (`int`): leading columns, in the cache or in this pass, that are prompts.
        prompt (`PromptStates`, *optional*): the prompt that was given as an argument.
        has_start_token (`bool`): whether the first real column is a token of the model's own.
        device (`torch.device`): of the result.

    Raises:
        ConfigurationError: the mask has another length.
    """
    total = past + num_columns
    inputs = 0 if prompt is None else prompt.num_input_columns
    if attention_mask is None:
        visible = torch.ones(batch_size, total - inputs, dtype=torch.bool, device=device)
    else:
        visible = attention_mask.ne(0)
    if inputs and prompt is not None:
        shown = visible.new_ones(len(visible), inputs) if prompt.input_mask is None else prompt.input_mask
        visible = torch.cat([shown, visible], dim=1)
    if visible.shape != (batch_size, total):
        raise ConfigurationError(
            f"the attention mask has shape {tuple(visible.shape)} with prompts, all columns {(batch_size, total)}",
            hint="1 for every real column, those in the cache included",
        )
    start = None
    if not has_start_token:
        visible, start = hide_start(visible, num_front)
    counted = visible.clone()
    counted[:, :num_front] = False
    positions = (counted.long().cumsum(1) - 1).masked_fill(~counted, NO_POSITION)
    return Columns(visible, positions[:, past:], start)


def let_start_see_itself(mask: Tensor, start: Tensor, past: int, num_key_columns: int) -> Tensor:
    """Let a hidden start token see itself, so that its state is a number, whatever stands beside it.

    Args:
        mask (`Tensor` of shape `(B or 1, 1, N, P + past + N)`): bool, or floating.
        start (`LongTensor` of shape `(B,)`): its column, without those of deep prompts.
        past (`int`): columns in the cache.
        num_key_columns (`int`): columns P of deep prompts.
    """
    queries = torch.arange(mask.shape[-2], device=mask.device) == (start - past).unsqueeze(1)
    keys = torch.arange(mask.shape[-1], device=mask.device) == (start + num_key_columns).unsqueeze(1)
    own = (queries.unsqueeze(2) & keys.unsqueeze(1)).unsqueeze(1)
    return mask | own if mask.dtype == torch.bool else torch.where(own, torch.zeros_like(mask), mask)


def without_positions(vectors: Tensor, positions: Tensor, first: Tensor | None) -> Tensor:
    """Take the vector of position 0, which will be added, from columns that have no position.

    Args:
        vectors (`Tensor` of shape `(B, N, D)`): input vectors.
        positions (`LongTensor` of shape `(B, N)`): `NO_POSITION` for prompts, padding and hidden start tokens.
        first (`Tensor` of shape `(D,)`, *optional*): the learned vector of position 0.
    """
    if first is None:
        return vectors
    return vectors - (positions < 0).unsqueeze(-1).to(vectors.dtype) * first.to(vectors.dtype)


def pad_positions(position_ids: Tensor, num_inputs: int, num_in_cache: int) -> Tensor:
    """Positions that a caller gave, for all columns of this pass.

    Args:
        position_ids (`LongTensor` of shape `(B, N)`): from 0; they count the prompt columns of a cache, too.
        num_inputs (`int`): columns of input prompts in front.
        num_in_cache (`int`): prompt columns that they count.
    """
    counted = (position_ids - num_in_cache).clamp(min=NO_POSITION)
    return nn.functional.pad(counted, (num_inputs, 0), value=NO_POSITION)
