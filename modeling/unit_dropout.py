"""Units left out in training."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.vocabulary import SPECIAL_TOKENS

__all__ = ["drop_units"]


def drop_units(
    input_ids: Tensor, attention_mask: Tensor, share: float | Tensor, pad_token_id: int
) -> tuple[Tensor, Tensor]:
    """Leave out a random share of the units; start token and separator stay.

    Args:
        input_ids (`LongTensor` of shape `(B, N)`): utterances.
        attention_mask (`Tensor` of shape `(B, N)`): 1 for what is real.
        share (`float` or `Tensor` of shape `(B, 1)`): probability of each unit to be left out; drawn from torch's
            global generator.
        pad_token_id (`int`): fills the end.

    Returns:
        `tuple[LongTensor, LongTensor]` of shape `(B, N')`: what is left, padded on the right.
    """
    real = attention_mask.ne(0)
    dropped = (torch.rand(input_ids.shape, device=input_ids.device) < share) & (input_ids >= len(SPECIAL_TOKENS))
    kept = real & ~dropped
    order = (~kept).long().argsort(dim=1, stable=True)
    length = int(kept.sum(1).max())
    kept, order = kept.gather(1, order)[:, :length], order[:, :length]
    return input_ids.gather(1, order).masked_fill(~kept, pad_token_id), kept.long()
