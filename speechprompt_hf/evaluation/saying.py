"""What a model that says sequences answers: rows of token ids or of units to texts with their scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from torch import Tensor

from ..core.vocabulary import PAD_TOKEN_ID, UnitVocabulary
from ..data.collators import UnitCollator
from ..data.lengths import max_utterance_tokens
from ..modeling.saved_generation import PLAIN_SEARCH

__all__ = ["Said", "decoded", "say", "say_rows"]


class Said(NamedTuple):
    """An answer.

    Attributes:
        text (`str`): what was said.
        score (`float`): mean log-probability of its tokens, the end among them: 0 is certain.
    """

    text: str
    score: float


def decoded(tokenizer: Any, tokens: Sequence[int]) -> str:
    """The text of output tokens; special ones and padding, -100 too, are no part of it.

    Args:
        tokenizer (`PreTrainedTokenizerFast`): the model's `output_tokenizer`.
        tokens (`Sequence[int]`): output tokens.
    """
    known = [int(token) for token in tokens if token >= 0]
    return " ".join(str(tokenizer.decode(known, skip_special_tokens=True)).split())


@torch.no_grad()
def say(
    model: Any, input_ids: Tensor, attention_mask: Tensor, *, num_beams: int = 1, max_new_tokens: int | None = None
) -> list[Said]:
    """Answer a batch of utterances; a search that was saved with the adapter has no part in it.

    Args:
        model (`SpeechPromptForSequenceGeneration`): in evaluation mode.
        input_ids (`LongTensor` of shape `(B, N)`): `</s>`, units, `<s>`; on the model's device.
        attention_mask (`Tensor` of shape `(B, N)`): 1 for what is real.
        num_beams (`int`, defaults to 1): 1 is the most probable token after another.
        max_new_tokens (`int`, *optional*): the model's `max_output_tokens` by default.

    Returns:
        `list[Said]`: B answers.
    """
    options: dict[str, Any] = {} if max_new_tokens is None else {"max_new_tokens": max_new_tokens}
    output = model.generate(
        input_ids=input_ids,
        attention_mask=attention_mask,
        return_dict_in_generate=True,
        output_scores=True,
        **(PLAIN_SEARCH | {"num_beams": num_beams} | options),
    )
    tokens = output.sequences
    if num_beams > 1:
        scores = output.sequences_scores
    else:
        steps = model.compute_transition_scores(tokens, output.scores, normalize_logits=True)
        is_said = tokens[:, 1:] != PAD_TOKEN_ID
        scores = steps.masked_fill(~is_said, 0.0).sum(1) / is_said.sum(1).clamp(min=1)
    return [
        Said(decoded(model.output_tokenizer, row), float(score))
        for row, score in zip(tokens[:, 1:].tolist(), scores.tolist(), strict=True)
    ]


def say_rows(
    model: Any,
    rows: Dataset,
    vocabulary: UnitVocabulary | None = None,
    *,
    num_beams: int = 1,
    batch_size: int = 32,
) -> list[Said]:
    """Answer rows of units.

    Args:
        model (`SpeechPromptForSequenceGeneration`): put into evaluation mode.
        rows (`Dataset`): R rows with `units`.
        vocabulary (`UnitVocabulary`, *optional*): the model's by default.
        num_beams (`int`, defaults to 1): 1 is the most probable token after another.
        batch_size (`int`, defaults to 32): rows of a batch; rows of similar lengths are put together.

    Returns:
        `list[Said]`: R answers, in the order of the rows.

    Raises:
        UnitError: an utterance is so long that not every answer fits behind it.
    """
    collator = UnitCollator(
        vocabulary or model.vocabulary, max_utterance_tokens(model.lm, model.config.max_output_tokens)
    )
    model.eval()
    units = list(rows["units"])
    order = sorted(range(len(units)), key=lambda row: len(units[row]))
    answers: dict[int, Said] = {}
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = collator([{"units": units[row]} for row in chosen])
        given: dict[str, Any] = {name: tensor.to(model.device) for name, tensor in batch.items()}
        answers.update(zip(chosen, say(model, **given, num_beams=num_beams), strict=True))
    return [answers[row] for row in range(len(units))]
