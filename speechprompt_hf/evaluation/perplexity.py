"""How probable units are to a language model that did not say them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..core.errors import ConfigurationError, UnitError
from ..core.vocabulary import EOS_TOKEN_ID, PAD_TOKEN_ID, UnitVocabulary
from ..data.lengths import TOO_LONG_HINT
from ..data.unit_identity import merged_row

__all__ = ["UnitPerplexity", "unit_perplexity"]


@dataclass(frozen=True)
class UnitPerplexity:
    """Perplexity of rows of units.

    Attributes:
        value (`float`): over all units; as many equally probable units would be as hard to foresee.
        rows (`tuple[float, ...]`): of each row.
        num_units (`int`): units that were measured.
    """

    value: float
    rows: tuple[float, ...]
    num_units: int


@torch.no_grad()
def unit_perplexity(
    lm: Any,
    units: Sequence[Sequence[int]],
    prompts: Sequence[Sequence[int]] | None = None,
    *,
    vocabulary: UnitVocabulary | None = None,
    batch_size: int = 32,
) -> UnitPerplexity:
    """Perplexity of units, such as of continuations behind their prompts, by a language model without any adapter.

    A wrapped language model without a start token (TWIST, Qwen2) foresees no first unit: nothing stands before it. The
    first unit of a row without a prompt is then not measured.

    Args:
        lm (`UnitLanguageModel`): from `load_base`; it reads from left to right.
        units (`Sequence` of R rows): merged units that are measured; each row has one at least.
        prompts (`Sequence` of R rows, *optional*): units that stand before them, and are not measured.
        vocabulary (`UnitVocabulary`, *optional*): which token each unit is; numeric order by default.
        batch_size (`int`, defaults to 32): rows of a batch.

    Returns:
        `UnitPerplexity`: the end of a row is not measured.

    Raises:
        ConfigurationError: an encoder-decoder model, which foresees nothing; no row, or more prompts than rows.
        UnitError: a row has no units, is too long, or has a unit that the language model does not know; or it has one
            unit, no prompt, and the language model no start token.

    Source:
        Lakhotia et al. 2021 (arXiv 2102.01192, section 4) measures transcripts by a language model of words; units
        need no recogniser, and their perplexities compare only between models of the same units.
    """
    if lm.config.is_encoder_decoder:
        raise ConfigurationError(
            f"a {type(lm).__name__} reads both ways and foresees no units", hint="use a GSLM or another causal model"
        )
    before = [[]] * len(units) if prompts is None else list(prompts)
    if not len(units) or len(before) != len(units):
        raise ConfigurationError(f"{len(units)} rows of units came with {len(before)} prompts", hint="one a row")
    vocabulary = vocabulary or UnitVocabulary.from_num_units(lm.num_units)
    rows = [
        _tokens(number, given, row, vocabulary, lm)
        for number, (given, row) in enumerate(zip(before, units, strict=True))
    ]
    totals, counts = [0.0] * len(rows), [0] * len(rows)
    order = sorted(range(len(rows)), key=lambda number: len(rows[number][0]))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        longest = max(len(rows[number][0]) for number in chosen)
        ids = torch.full((len(chosen), longest), PAD_TOKEN_ID, device=lm.device)
        for place, number in enumerate(chosen):
            ids[place, : len(rows[number][0])] = torch.tensor(rows[number][0])
        mask = (torch.arange(longest, device=lm.device) < _lengths(rows, chosen, lm.device)[:, None]).long()
        losses = _losses(lm, ids, mask)
        for place, number in enumerate(chosen):
            tokens, first = rows[number]
            # Loss i is that of token i + 1.
            totals[number] = float(losses[place, first - 1 : len(tokens) - 1].double().sum())
            counts[number] = len(tokens) - first
    return UnitPerplexity(
        value=math.exp(sum(totals) / sum(counts)),
        rows=tuple(math.exp(total / count) for total, count in zip(totals, counts, strict=True)),
        num_units=sum(counts),
    )


def _tokens(
    number: int, prompt: Sequence[int], units: Sequence[int], vocabulary: UnitVocabulary, lm: Any
) -> tuple[list[int], int]:
    """The start, prompt and units as tokens, and the place of the first one that is measured."""
    what = f"row {number}"
    if not len(units):
        raise UnitError(f"{what} has no units", hint="leave it out")
    whole = [*map(int, prompt), *map(int, units)]
    if merged_row(whole, what) != whole:
        raise UnitError(f"{what} has equal neighbours", hint="merge them: language models read merged units")
    tokens = [EOS_TOKEN_ID, *vocabulary.encode(whole)]
    if len(tokens) > lm.max_utterance_tokens:
        most = lm.max_utterance_tokens - 1
        raise UnitError(
            f"{what} has {len(whole)} units, more than the {most} that the language model reads",
            hint=TOO_LONG_HINT,
        )
    first = 1 + len(prompt)
    if first == 1 and not getattr(lm.config, "has_start_token", True):
        # What the start is read as was never trained.
        if len(tokens) == 2:
            raise UnitError(
                f"{what} has one unit, which a language model without a start token does not foresee",
                hint="give it a prompt, or leave it out",
            )
        first = 2
    return tokens, first


def _lengths(rows: Sequence[tuple[list[int], int]], chosen: Sequence[int], device: torch.device) -> torch.Tensor:
    return torch.tensor([len(rows[number][0]) for number in chosen], device=device)


def _losses(lm: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Negative log-probability `(B, N - 1)` of each token but the first."""
    logits = lm(input_ids=ids, attention_mask=mask).logits.float()
    return torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")
