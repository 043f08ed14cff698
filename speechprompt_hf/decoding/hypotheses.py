"""n-best texts with their scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessorList

from ..core.errors import ConfigurationError
from ..core.vocabulary import EOS_TOKEN_ID, SPECIAL_TOKENS
from ..modeling.saved_generation import PLAIN_SEARCH
from .constraint import GrammarConstraint
from .grammar import TokenGrammar

__all__ = ["Hypothesis", "generate_hypotheses"]


@dataclass(frozen=True)
class Hypothesis:
    """One answer to an utterance.

    Attributes:
        text (`str`): what is said.
        tokens (`tuple[int, ...]`): its output tokens, without special ones.
        log_probability (`float`): of the whole sequence, its end included, in nats, by the model alone: constraints
            take nothing from the probabilities.
        is_whole (`bool`): whether it ended by itself, before the highest length.
    """

    text: str
    tokens: tuple[int, ...]
    log_probability: float
    is_whole: bool


@torch.no_grad()
def generate_hypotheses(
    model: Any,
    *,
    num_hypotheses: int = 1,
    num_beams: int | None = None,
    length_penalty: float = 1.0,
    max_new_tokens: int | None = None,
    grammar: TokenGrammar | None = None,
    **inputs: Any,
) -> list[list[Hypothesis]]:
    """The best sequences of each utterance, by beam search; a saved search has no part in it.

    Args:
        model (`SpeechPromptForSequenceGeneration`): in evaluation mode.
        num_hypotheses (`int`, defaults to 1): answers an utterance.
        num_beams (`int`, *optional*): beams; as many as hypotheses by default.
        length_penalty (`float`, defaults to 1.0): hypotheses are ranked by log-probability / length**penalty; above 1
            prefers longer ones.
        max_new_tokens (`int`, *optional*): the most tokens, `</s>` among them; the model's by default.
        grammar ([`TokenGrammar`], *optional*): what may be said.
        **inputs: of the model's `generate`: `input_ids` or `input_values`, `attention_mask`.

    Returns:
        `list[list[Hypothesis]]`: for each utterance those that ended by themselves, then those that the highest length
            cut off, each best first by log-probability / length**penalty; fewer than asked for where a grammar allows
            fewer.

    Raises:
        ConfigurationError: fewer beams than hypotheses.
    """
    beams = max(1, num_hypotheses) if num_beams is None else num_beams
    if num_hypotheses < 1 or beams < num_hypotheses:
        raise ConfigurationError(
            f"{num_hypotheses} hypotheses from {beams} beams", hint="at least one, and as many beams as hypotheses"
        )
    length = max_new_tokens or model.max_answer_tokens
    processors = LogitsProcessorList()
    if grammar is not None:
        processors.append(GrammarConstraint(grammar, model.config.output_vocab_size, length))
    output = model.generate(
        **inputs,
        **(PLAIN_SEARCH | {"num_beams": beams, "length_penalty": length_penalty}),
        num_return_sequences=num_hypotheses,
        max_new_tokens=length,
        logits_processor=processors,
        output_scores=beams > 1,
        output_logits=beams == 1,
        return_dict_in_generate=True,
    )
    if beams > 1:
        # Log-probabilities already, from before the constraints.
        steps = model.compute_transition_scores(output.sequences, output.scores, output.beam_indices)
    else:
        steps = model.compute_transition_scores(output.sequences, output.logits, normalize_logits=True)
    made = [_hypothesis(model, row, scores) for row, scores in zip(output.sequences, steps, strict=True)]
    return [_distinct(made[start : start + num_hypotheses]) for start in range(0, len(made), num_hypotheses)]


def _distinct(hypotheses: list[Hypothesis]) -> list[Hypothesis]:
    """Without copies: beams that a grammar leaves nothing to say end as those of others. Whole ones come first."""
    first: dict[tuple[int, ...], Hypothesis] = {}
    for one in hypotheses:
        first.setdefault(one.tokens, one)
    return sorted(first.values(), key=lambda one: not one.is_whole)


def _hypothesis(model: Any, row: Tensor, scores: Tensor) -> Hypothesis:
    said = row[1:].tolist()
    is_whole = EOS_TOKEN_ID in said
    length = said.index(EOS_TOKEN_ID) + 1 if is_whole else len(said)
    tokens = tuple(token for token in said[:length] if token >= len(SPECIAL_TOKENS))
    total = math.fsum(scores[:length].double().tolist())
    return Hypothesis(model.output_tokenizer.decode(list(tokens)), tokens, total, is_whole)
