"""What each said token was worth, from what `generate` recorded."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["transition_scores"]


def transition_scores(
    sequences: Tensor, scores: Sequence[Tensor], beam_indices: Tensor | None = None, *, normalize_logits: bool = False
) -> Tensor:
    """The score of each token of each sequence, in the step in which it was chosen.

    transformers' own function takes the number of tokens from `config.vocab_size`, which here is that of the units.

    Args:
        sequences (`LongTensor` of shape `(R, 1 + T)`): what was said.
        scores (`Sequence[Tensor]` of length T): of each step, `(B, K)`: rows are utterances, or their beams.
        beam_indices (`LongTensor` of shape `(R, T)`, *optional*): the row of `scores` of each token, negative after
            the end of a sequence; row r is sequence r without it.
        normalize_logits (`bool`, defaults to `False`): take the log-softmax of `scores`.

    Returns:
        `Tensor` of shape `(R, T)`; 0 where `beam_indices` is negative.
    """
    length = sequences.shape[1] - 1
    steps = torch.stack([step.log_softmax(-1) if normalize_logits else step for step in scores[:length]], dim=1)
    if beam_indices is None:
        return steps.gather(2, sequences[:, 1:, None])[..., 0]
    rows = beam_indices[:, :length]
    columns = torch.arange(length, device=sequences.device).expand_as(rows)
    chosen: Tensor = steps[rows.clamp(min=0), columns, sequences[:, 1:]]
    return chosen.masked_fill(rows < 0, 0.0)
