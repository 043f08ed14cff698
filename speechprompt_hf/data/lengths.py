"""How long an utterance a language model reads, in one sentence wherever one is longer."""

from __future__ import annotations

from typing import Any

__all__ = ["TOO_LONG_HINT", "max_utterance_tokens", "why_too_long"]

# The start token and the separator.
_FURTHER_TOKENS = 2

TOO_LONG_HINT = "cut it, or use a base with more positions"
"""What to do about an utterance that is too long."""


def max_utterance_tokens(lm: Any, num_output_tokens: int) -> int:
    """Tokens of the longest utterance that an answer fits behind.

    Args:
        lm (`UnitLanguageModel`): the base; those with an encoder read utterances apart from answers.
        num_output_tokens (`int`): the most tokens of an answer; of a model that says sequences its configuration's
            `max_output_tokens`, of a classifier 1.
    """
    apart = lm.num_encoder_prompt_layers > 0
    # The last token of an answer is not read again.
    return int(lm.max_utterance_tokens) - (0 if apart else num_output_tokens - 1)


def why_too_long(num_units: int, max_tokens: int | None) -> str | None:
    """What is said of an utterance that does not fit a language model; `None` where it fits.

    Args:
        num_units (`int`): units of the utterance, without equal neighbours.
        max_tokens (`int`, *optional*): the model's `max_utterance_tokens`; everything fits without it.
    """
    if max_tokens is None or num_units + _FURTHER_TOKENS <= max_tokens:
        return None
    return f"{num_units} units, more than the {max_tokens - _FURTHER_TOKENS} that the base reads at once"
