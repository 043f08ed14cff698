"""Fixed verbalizers: which unit stands for which label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ..core.errors import LabelError
from ..core.vocabulary import SPECIAL_TOKENS

__all__ = ["check_room", "frequency_map", "random_map"]


def check_room(num_labels: int, num_units: int) -> None:
    """Refuse more labels than units where every label needs a unit of its own.

    Raises:
        LabelError: there are more labels.
    """
    if num_labels > num_units:
        raise LabelError(
            f"{num_labels} labels cannot each have a unit of their own among {num_units}",
            hint="choose the learnable verbalizer, which takes any number of labels; for several labels an utterance "
            "also label_feedback='mixture' or readout='pooled'",
        )


def random_map(num_labels: int, vocab_size: int, generator: torch.Generator | None = None) -> Tensor:
    """A random unit token for every label, none twice.

    Args:
        num_labels (`int`): labels.
        vocab_size (`int`): special tokens and units; the special tokens are not used.
        generator (`torch.Generator`, *optional*): the randomness.

    Returns:
        `LongTensor` of shape `(num_labels,)`: token ids.

    Raises:
        LabelError: more labels than units.
    """
    num_units = vocab_size - len(SPECIAL_TOKENS)
    check_room(num_labels, num_units)
    return torch.randperm(num_units, generator=generator)[:num_labels] + len(SPECIAL_TOKENS)


def frequency_map(
    labels: Iterable[int], token_rows: Iterable[Sequence[int]], label_tokens: Sequence[int], vocab_size: int
) -> Tensor:
    """The i-th most frequent unit token for the i-th most frequent label; ties by first occurrence.

    Args:
        labels (`Iterable[int]`): label tokens of the training rows, every label of every row; labels that do not occur
            come last, in the order of `label_tokens`.
        token_rows (`Iterable[Sequence[int]]`): unit token ids of the training rows; units that do not occur come last.
        label_tokens (`Sequence[int]`): the labels to map.
        vocab_size (`int`): special tokens and units.

    Returns:
        `LongTensor` of shape `(len(label_tokens),)`: token ids in the order of `label_tokens`.

    Raises:
        LabelError: more labels than units, or a token that is no unit's.

    Source:
        SpeechPrompt v1 and v2, verbalizer `freq`.
    """
    check_room(len(label_tokens), vocab_size - len(SPECIAL_TOKENS))
    units = Counter(int(token) for row in token_rows for token in row)
    strangers = [token for token in units if not len(SPECIAL_TOKENS) <= token < vocab_size]
    if strangers:
        raise LabelError(
            f"token id {strangers[0]} is no unit of a vocabulary of {vocab_size}",
            hint="pass token ids of units, without the start token and the separator",
        )
    ranked_units = [token for token, _ in units.most_common()]
    seen = set(ranked_units)
    ranked_units += [token for token in range(len(SPECIAL_TOKENS), vocab_size) if token not in seen]
    counted = Counter(int(label) for label in labels)
    ranked_labels = [label for label, _ in counted.most_common() if label in set(label_tokens)]
    ranked_labels += [label for label in label_tokens if label not in counted]
    unit_of_label = dict(zip(ranked_labels, ranked_units, strict=False))
    return torch.tensor([unit_of_label[label] for label in label_tokens])
