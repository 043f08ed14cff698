"""A grammar as a logits processor of transformers' `generate`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import LogitsProcessor

from ..core.errors import ConfigurationError
from ..core.vocabulary import EOS_TOKEN_ID, SPECIAL_TOKENS
from .grammar import DEAD, TokenGrammar

__all__ = ["GrammarConstraint"]


class GrammarConstraint(LogitsProcessor):
    """Lets only those tokens be said that a grammar allows; greedy search, beams and sampling alike.

    With `max_tokens` a token is allowed only if the sequence can still end in time, so that every sequence is whole.

    Args:
        grammar ([`TokenGrammar`]): what is allowed.
        vocab_size (`int`): tokens K of the output vocabulary.
        max_tokens (`int`, *optional*): the most tokens that are generated, `</s>` among them.

    Raises:
        ConfigurationError: the grammar knows other tokens, or no sequence is so short.
    """

    def __init__(self, grammar: TokenGrammar, vocab_size: int, max_tokens: int | None = None) -> None:
        if max_tokens is not None and grammar.distances[0] > max_tokens:
            raise ConfigurationError(
                f"max_tokens is {max_tokens}, the shortest sequence of the grammar has {grammar.distances[0]} tokens",
                hint="allow more tokens",
            )
        self.max_tokens = max_tokens
        # The dead state, -1, is the last row.
        table = torch.from_numpy(grammar.table(vocab_size))
        self._next = nn.functional.pad(table, (0, 0, 0, 1), value=DEAD)
        self._is_end = torch.tensor([state in grammar.accepting for state in range(len(self._next))])
        self._distances = torch.from_numpy(grammar.distances)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores with `-inf` for what is not allowed.

        Args:
            input_ids (`LongTensor` of shape `(B, 1 + T)`): what was said, after `<s>`.
            scores (`Tensor` of shape `(B, K)`): of what may be said next.

        Returns:
            `Tensor` of shape `(B, K)`.
        """
        tokens = input_ids[:, 1:]
        table, is_end = self._next.to(scores.device), self._is_end.to(scores.device)
        states = torch.zeros(len(tokens), dtype=torch.long, device=scores.device)
        for column in tokens.T:
            # After the end there is padding, which no processor needs to choose.
            states = torch.where(column < len(SPECIAL_TOKENS), states, table[states, column])
        following = table[states]
        allowed = following != DEAD
        if self.max_tokens is not None:
            left = self.max_tokens - tokens.shape[1]
            allowed &= self._distances.to(scores.device)[following.clamp(min=0)] <= left - 1
        allowed[:, EOS_TOKEN_ID] = is_end[states]
        if self.max_tokens is not None:
            allowed[:, EOS_TOKEN_ID] &= tokens.shape[1] < self.max_tokens
        return scores.masked_fill(~allowed, -torch.inf)
