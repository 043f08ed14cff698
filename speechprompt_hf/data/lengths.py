"""How long an utterance a language model reads, in one sentence wherever one is longer."""

from __future__ import annotations

__all__ = ["TOO_LONG_HINT", "why_too_long"]

# The start token and the separator.
_FURTHER_TOKENS = 2

TOO_LONG_HINT = "cut it, or use a base with more positions"
"""What to do about an utterance that is too long."""


def why_too_long(num_units: int, max_tokens: int | None) -> str | None:
    """What is said of an utterance that does not fit a language model; `None` where it fits.

    Args:
        num_units (`int`): units of the utterance, without equal neighbours.
        max_tokens (`int`, *optional*): the model's `max_utterance_tokens`; everything fits without it.
    """
    if max_tokens is None or num_units + _FURTHER_TOKENS <= max_tokens:
        return None
    return f"{num_units} units, more than the {max_tokens - _FURTHER_TOKENS} that the base reads at once"
