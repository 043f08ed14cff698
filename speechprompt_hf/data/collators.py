"""Rows of units to padded batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset, List, Value
from torch import Tensor

from ..core.errors import UnitError
from ..core.vocabulary import PAD_TOKEN_ID, UnitVocabulary
from ..tasks import Task
from .lengths import TOO_LONG_HINT, why_too_long

__all__ = ["UnitCollator", "labelled_units", "padded", "unit_table"]


@dataclass(frozen=True)
class UnitCollator:
    """Rows to `input_ids`, `attention_mask` and `labels`; works with `Trainer` as a data collator.

    Rows of units are encoded as `[2, units…, 0]`. Rows longer than the model's positions are an error: an utterance
    that is cut silently may lose what its label says.

    Args:
        vocabulary (`UnitVocabulary`): units → token ids.
        max_positions (`int`, *optional*): the model's `max_utterance_tokens`.
        prosody_vocabulary (`UnitVocabulary`, *optional*): prosody codes → token ids, for models that read the second
            stream; without it the codes of the rows are left out.
    """

    vocabulary: UnitVocabulary
    max_positions: int | None = None
    prosody_vocabulary: UnitVocabulary | None = None

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Pad on the right.

        Args:
            rows (`Sequence[dict]` of length B): `input_ids` or `units` (list of int), and `labels` or `label` (class
                index) for training; `prosody_ids` or `prosody` (list of int, one code a unit) for the second stream.

        Returns:
            `dict[str, Tensor]`: `input_ids` and `attention_mask` (int64, `(B, N)`), `labels` (int64, `(B,)`), and with
            `prosody_vocabulary` `prosody_ids` (int64, `(B, N)`), laid out and padded as `input_ids`.

        Raises:
            UnitError: a row has no units, a unit or code that the vocabulary lacks, more tokens than `max_positions`,
                or more or fewer codes than units.
        """
        encoded = [self._input_ids(row, number) for number, row in enumerate(rows)]
        input_ids = padded(encoded, PAD_TOKEN_ID)
        mask = torch.zeros_like(input_ids)
        for number, ids in enumerate(encoded):
            mask[number, : len(ids)] = 1
        batch = {"input_ids": input_ids, "attention_mask": mask}
        if self.prosody_vocabulary is not None:
            codes = [self._prosody_ids(row, number, len(encoded[number])) for number, row in enumerate(rows)]
            batch["prosody_ids"] = padded(codes, PAD_TOKEN_ID)
        for name in ("labels", "label"):
            if name in rows[0]:
                batch["labels"] = self._labels([row[name] for row in rows])
                break
        return batch

    def _labels(self, labels: Sequence[Any]) -> Tensor:
        return torch.tensor([int(label) for label in labels])

    def _input_ids(self, row: dict[str, Any], number: int) -> Sequence[int]:
        ids = row["input_ids"] if "input_ids" in row else self.vocabulary.input_ids(row["units"])
        name = row.get("item", f"row {number} of the batch")
        if len(ids) <= 2:
            raise UnitError(f"{name} has no units", hint="leave it out")
        if "input_ids" in row and not 0 <= min(ids) <= max(ids) < len(self.vocabulary):
            wrong = next(token for token in ids if not 0 <= token < len(self.vocabulary))
            raise UnitError(
                f"token id {wrong} of {name} is outside the vocabulary of {len(self.vocabulary)} tokens",
                hint="units and language model must come from the same quantizer",
            )
        too_long = why_too_long(len(ids) - 2, self.max_positions)
        if too_long:
            raise UnitError(f"{name} has {too_long}", hint=TOO_LONG_HINT)
        return ids

    def _prosody_ids(self, row: dict[str, Any], number: int, length: int) -> Sequence[int]:
        assert self.prosody_vocabulary is not None
        name = row.get("item", f"row {number} of the batch")
        if "prosody_ids" in row:
            ids = row["prosody_ids"]
        elif "prosody" in row:
            ids = self.prosody_vocabulary.input_ids(row["prosody"])
        else:
            raise UnitError(f"{name} has no prosody codes", hint="make the units with a processor that adds them")
        if len(ids) != length:
            raise UnitError(
                f"{name} has {length - 2} units and {len(ids) - 2} prosody codes", hint="give one code a unit"
            )
        return ids


def padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Rows of integers as a rectangle, filled up on the right.

    Args:
        rows (`Sequence[Sequence[int]]` of length B): at least one.
        value (`int`): what fills.

    Returns:
        `LongTensor` of shape `(B, N)`.
    """
    result = torch.full((len(rows), max(map(len, rows))), value, dtype=torch.long)
    for number, ids in enumerate(rows):
        result[number, : len(ids)] = torch.as_tensor(ids)
    return result


def labelled_units(
    rows: Dataset, task: Task, vocabulary: UnitVocabulary, prosody_vocabulary: UnitVocabulary | None = None
) -> Dataset:
    """The columns that `Trainer` keeps: `input_ids`, `labels` (class index) and `length` (tokens, for grouping).

    With `prosody_vocabulary` also `prosody_ids`, of as many tokens.

    Args:
        rows (`Dataset`): rows with `units` and `label` (class name).
        task (`Task`): class names → indices.
        vocabulary (`UnitVocabulary`): units → token ids.
        prosody_vocabulary (`UnitVocabulary`, *optional*): prosody codes → token ids; needs the column `prosody`.

    Raises:
        UnitError: a row has no units or a unit that the vocabulary lacks, or no prosody codes.
        LabelError: a label is not the task's.
    """
    index = task.label2id
    labels = [index[label] if label in index else task.index_of(label) for label in rows["label"]]
    return unit_table(rows, labels, vocabulary, prosody_vocabulary)


def unit_table(
    rows: Dataset,
    labels: Sequence[Any],
    vocabulary: UnitVocabulary,
    prosody_vocabulary: UnitVocabulary | None = None,
) -> Dataset:
    """`labelled_units` with labels that are known.

    Args:
        rows (`Dataset`): R rows with `units`.
        labels (`Sequence` of length R): a class index a row, or a list of tokens.
        vocabulary (`UnitVocabulary`): units → token ids.
        prosody_vocabulary (`UnitVocabulary`, *optional*): prosody codes → token ids; needs the column `prosody`.

    Raises:
        UnitError: a row has no units or a unit that the vocabulary lacks, or no prosody codes.
    """
    input_ids = []
    items = rows["item"] if "item" in rows.column_names else range(len(rows))
    for item, units in zip(items, rows["units"], strict=True):
        if not len(units):
            raise UnitError(f"{item} has no units", hint="leave it out")
        input_ids.append(vocabulary.input_ids(units))
    table = Dataset.from_dict({"labels": list(labels), "length": [len(ids) for ids in input_ids]})
    table = table.add_column("input_ids", input_ids, feature=List(Value("int32")))
    if prosody_vocabulary is None:
        return table
    if "prosody" not in rows.column_names:
        raise UnitError("the rows have no prosody codes", hint="make the units with a processor that adds them")
    codes = [prosody_vocabulary.input_ids(row) for row in rows["prosody"]]
    return table.add_column("prosody_ids", codes, feature=List(Value("int32")))
