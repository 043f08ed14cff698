"""Rows of units and texts to what a model that says sequences is trained with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from tokenizers import AddedToken, Regex, decoders
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from ..core.errors import DatasetError, LabelError
from ..core.output_patterns import BLANKS_AFTER_TAGS, BLANKS_BEFORE_TAGS, OUTER_BLANKS
from ..core.vocabulary import UnitVocabulary
from ..processors.output_tokenization import build_output_tokenizer
from ..tasks import SequenceTask, slot_tags, text_to_slots
from .collators import UnitCollator, padded, unit_table
from .extraction import SkippedItem

__all__ = ["NOT_TAUGHT", "SequenceCollator", "output_ids", "said_units", "task_tokenizer", "without_long_texts"]

NOT_TAUGHT = -100
"""What stands in `labels` where there is nothing to say."""


@dataclass(frozen=True)
class SequenceCollator(UnitCollator):
    """Rows to `input_ids`, `attention_mask` and `labels` `(B, K)`, output tokens padded with -100 on the right.

    The rest is `UnitCollator`'s.
    """

    def _labels(self, labels: Sequence[Any]) -> Tensor:
        return padded(labels, NOT_TAUGHT)


def task_tokenizer(task: SequenceTask, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """The output vocabulary of a task, made from its training texts; tags of slots are tokens of their own.

    Args:
        task (`SequenceTask`): what is said.
        texts (`Iterable[str]`): normalised texts of the training rows.

    Raises:
        LabelError: no text has anything in it, or a text holds a special token.
        ConfigurationError: too few subwords.
    """
    rows = list(texts)
    if not task.has_slots or task.tokens == "words":
        return build_output_tokenizer(rows, task.tokens, num_subwords=task.num_subwords)
    slots = [text_to_slots(text) for text in rows]
    names = sorted({name for row in slots for name, _ in row})
    if not names:
        raise LabelError("no training row has a slot", hint="name the columns of the slots")
    values = [value for row in slots for _, value in row]
    tokenizer = build_output_tokenizer(values, task.tokens, num_subwords=task.num_subwords)
    # With the blanks around them, which are not said, and which the decoder gives back.
    tokenizer.add_tokens([AddedToken(tag, lstrip=True, rstrip=True, normalized=False) for tag in slot_tags(names)])
    backend = tokenizer.backend_tokenizer
    backend.decoder = decoders.Sequence([backend.decoder, decoders.Fuse(), *_blanks_around_tags()])
    return tokenizer


def _blanks_around_tags() -> list[decoders.Decoder]:
    """Steps of a decoder, behind one that makes one text; values of slots have no brackets."""
    return [
        decoders.Replace(Regex(BLANKS_BEFORE_TAGS), " "),
        decoders.Replace(Regex(BLANKS_AFTER_TAGS), " "),
        # The step Strip panics on an empty text.
        decoders.Replace(Regex(OUTER_BLANKS), ""),
    ]


def output_ids(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> list[list[int]]:
    """Output tokens of texts, `</s>` last.

    Args:
        tokenizer (`PreTrainedTokenizerFast`): from `task_tokenizer`.
        texts (`Iterable[str]`): normalised texts.
    """
    return [list(tokenizer(text).input_ids) for text in texts]


def without_long_texts(
    rows: Dataset, tokenizer: PreTrainedTokenizerFast, max_tokens: int, name: str
) -> tuple[Dataset, list[SkippedItem]]:
    """Rows whose texts are short enough to be taught, and those that were left out.

    Args:
        rows (`Dataset`): rows with `label` (the text) and `item`.
        tokenizer (`PreTrainedTokenizerFast`): of the output vocabulary.
        max_tokens (`int`): the most tokens of a text, `</s>` among them.
        name (`str`): of the part, for the error.

    Raises:
        DatasetError: not one text is short enough.
    """
    lengths = [len(tokens) for tokens in output_ids(tokenizer, rows["label"])]
    kept = [number for number, length in enumerate(lengths) if length <= max_tokens]
    if len(kept) == len(rows):
        return rows, []
    if not kept:
        raise DatasetError(
            f"all {len(rows)} texts of {name} have more than {max_tokens} tokens",
            hint="raise the task's max_tokens (--max-tokens), or let it say subwords or words",
        )
    skips = [
        SkippedItem(item, "LabelError", f"its text has {length} tokens, more than {max_tokens}")
        for item, length in zip(rows["item"], lengths, strict=True)
        if length > max_tokens
    ]
    return rows.select(kept), skips


def said_units(rows: Dataset, tokenizer: PreTrainedTokenizerFast, vocabulary: UnitVocabulary) -> Dataset:
    """The columns that `Trainer` keeps: `input_ids`, `labels` (output tokens) and `length` (tokens, for grouping).

    Args:
        rows (`Dataset`): rows with `units` and `label` (the text).
        tokenizer (`PreTrainedTokenizerFast`): of the output vocabulary.
        vocabulary (`UnitVocabulary`): units → token ids.

    Raises:
        UnitError: a row has no units or a unit that the vocabulary lacks.
    """
    return unit_table(rows, output_ids(tokenizer, rows["label"]), vocabulary)
