"""How a model scores one utterance when some of its units are missing, or are only partly there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..core.vocabulary import EOS_TOKEN_ID, SEPARATOR_TOKEN_ID, SPECIAL_TOKENS

__all__ = ["UnitScorer", "all_log_odds", "log_odds"]

# Tokens that pass the language model at once.
_TOKENS_AT_ONCE = 8192


def log_odds(logits: Tensor, class_index: int) -> Tensor:
    """How much more probable one class is than all others together.

    Args:
        logits (`Tensor` of shape `(…, M)`): class scores.
        class_index (`int`): the class.

    Returns:
        `Tensor` of shape `(…,)`: log(p / (1 - p)).
    """
    others = torch.cat([logits[..., :class_index], logits[..., class_index + 1 :]], dim=-1)
    return logits[..., class_index] - others.logsumexp(-1)


def all_log_odds(logits: Tensor) -> Tensor:
    """The log-odds of every class, at most 36.

    Args:
        logits (`Tensor` of shape `(…, M)`, float64): class scores.

    Returns:
        `Tensor` of shape `(…, M)`.
    """
    log_probabilities = logits.log_softmax(-1)
    # Where one class has all of the probability, rounding leaves the others none.
    return log_probabilities - (-torch.expm1(log_probabilities.clamp(max=-1e-16))).log()


class UnitScorer:
    """Class scores of one utterance of which a part is taken away.

    Removed units are taken out of the sequence: those after them move up, as where units are left out in training.
    Equal neighbours that meet are not merged.

    Args:
        model (`SpeechPromptForAudioClassification`): put into evaluation mode.
        units (`Sequence[int]` of length T): merged units.

    Raises:
        UnitError: the model's vocabulary lacks a unit.
    """

    def __init__(self, model: Any, units: Sequence[int]) -> None:
        self.model = model.eval()
        self.tokens = torch.tensor(model.vocabulary.encode(units), dtype=torch.long, device=model.device)

    @property
    def num_units(self) -> int:
        """Units T of the whole utterance."""
        return len(self.tokens)

    @property
    def rows_at_once(self) -> int:
        """Rows that pass the language model together."""
        return max(1, min(256, _TOKENS_AT_ONCE // (self.num_units + 2)))

    @torch.no_grad()
    def logits(self, kept: Tensor) -> Tensor:
        """Class scores of what is left.

        Args:
            kept (`BoolTensor` of shape `(R, T)`): the units that stay, one selection a row.

        Returns:
            `Tensor` of shape `(R, M)`, float64, on the CPU.
        """
        # Orders of removal have their ends in common, and are read once.
        distinct, back = kept.bool().cpu().unique(dim=0, return_inverse=True)
        order = distinct.sum(1).argsort(stable=True)
        scores = torch.zeros(len(distinct), self.model.config.num_labels, dtype=torch.float64)
        for rows in order.split(self.rows_at_once):
            ids, mask = self._inputs(distinct[rows])
            scores[rows] = self.model(input_ids=ids, attention_mask=mask).logits.double().cpu()
        return scores[back]

    def faded_logits(self, presence: Tensor) -> Tensor:
        """Class scores of the whole utterance with units that are only partly there; differentiable.

        Args:
            presence (`Tensor` of shape `(R, T)`, floating): by what each unit's embedding is multiplied, 1 for as it
                is; positions stay.

        Returns:
            `Tensor` of shape `(R, M)`, float64.
        """
        ids, mask = self._inputs(torch.ones(len(presence), self.num_units, dtype=torch.bool))
        with _faded(self.model.lm.get_input_embeddings(), presence, self.model.lm.num_units):
            scores: Tensor = self.model(input_ids=ids, attention_mask=mask).logits.double()
        return scores

    def _inputs(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        """`input_ids` and `attention_mask` `(R, N)` of selections `(R, T)`, padded on the right."""
        kept = kept.to(self.tokens.device)
        ends = kept.new_ones(len(kept), 1)
        start, end = self.tokens.new_tensor([EOS_TOKEN_ID]), self.tokens.new_tensor([SEPARATOR_TOKEN_ID])
        real = torch.cat([ends, kept, ends], dim=1)
        ids = torch.cat([start, self.tokens, end]).expand(len(kept), -1)
        order = (~real).long().argsort(dim=1, stable=True)[:, : int(real.sum(1).max())]
        mask = real.gather(1, order)
        return ids.gather(1, order).masked_fill(~mask, self.model.lm.config.pad_token_id or 0), mask.long()


@contextmanager
def _faded(embedding: Any, presence: Tensor, num_units: int) -> Iterator[None]:
    """Multiply the embeddings of the i-th unit of each row, wherever it is looked up, by `presence[:, i]`."""

    def fade(_: Any, arguments: tuple[Any, ...], vectors: Tensor) -> Tensor:
        tokens = arguments[0]
        is_unit = (tokens >= len(SPECIAL_TOKENS)) & (tokens < len(SPECIAL_TOKENS) + num_units)
        if not is_unit.any():
            return vectors
        number = is_unit.long().cumsum(1).sub(1).clamp(min=0)
        factors = presence.to(vectors).gather(1, number)
        return vectors * torch.where(is_unit, factors, torch.ones_like(factors)).unsqueeze(-1)

    handle = embedding.register_forward_hook(fade)
    try:
        yield
    finally:
        handle.remove()
