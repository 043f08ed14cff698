"""Token rows of a pretraining: cut, batched, disturbed, padded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..core.errors import DatasetError
from ..core.vocabulary import EOS_TOKEN_ID, PAD_TOKEN_ID, UnitVocabulary
from .unit_columns import UnitColumn
from .vectors import Vectors

__all__ = [
    "TokenRows",
    "collate_packed",
    "collate_rows",
    "disturb",
    "make_batches",
    "make_packed_batches",
    "make_rows",
]


class TokenRows(Vectors):
    """Rows of token ids in one array: two bytes an id, four of a vocabulary of more than 32,768 ids.

    A row is an int64 vector, made when it is asked for.

    Args:
        ids (`NDArray[int16]` or `NDArray[int32]` of shape `(N,)`): of all rows.
        starts (`NDArray[int64]` of shape `(R,)`): where each row begins in it.
        lengths (`NDArray[int64]` of shape `(R,)`): ids of each row; rows may overlap.
    """

    def __init__(self, ids: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> None:
        self.ids, self.starts, self.lengths = ids, starts, lengths

    def __len__(self) -> int:
        return len(self.starts)

    def vector(self, index: int) -> np.ndarray:
        """Row `index`: int64 of shape `(N,)`."""
        start = self.starts[index]
        return self.ids[start : start + self.lengths[index]].astype(np.int64)


def make_rows(
    sequences: Sequence[Sequence[int]],
    vocabulary: UnitVocabulary,
    *,
    max_tokens: int,
    break_mode: Literal["utterance", "stream"] = "utterance",
) -> TokenRows:
    """Token rows by fairseq's convention: each starts with `</s>`, an utterance ends with `</s>`.

    Args:
        sequences (`Sequence[Sequence[int]]` or `UnitColumn`): merged units of each utterance; those of a column go
            from Arrow into the rows without being held in between.
        vocabulary ([`UnitVocabulary`]): units to token ids.
        max_tokens (`int`): longest row, both `</s>` included.
        break_mode (`str`, *optional*, defaults to `"utterance"`): as in `PretrainingConfig`.

    Returns:
        `TokenRows`: int64 rows of 3 to `max_tokens` ids; a model reads `row[:-1]` and predicts `row[1:]`.

    Raises:
        DatasetError: there is no utterance with units.
        UnitError: a unit is not in the vocabulary.
    """
    if isinstance(sequences, UnitColumn):
        counts = sequences.lengths
    else:
        counts = np.fromiter(map(len, sequences), dtype=np.int64)
    counts = counts[counts > 0]
    if not len(counts):
        raise DatasetError("The corpus has no utterance with units.", hint="Extract units first: speechprompt units.")
    ends = np.cumsum(counts)
    step = max_tokens - 1
    if break_mode == "stream":
        # One `</s>` before the first utterance and one behind each; a row begins with the last token of the last one.
        num_tokens = int(ends[-1]) + len(ends)
        starts = np.arange(0, num_tokens, step)
        lengths = np.minimum(step, num_tokens - starts) + 1
        kept = (lengths > 2) | (starts == 0)
        starts, lengths, size = starts[kept], lengths[kept], num_tokens + 1
        first, places, taken = ends - counts, ends - counts + np.arange(1, len(ends) + 1), counts
    else:
        # Parts of an utterance and the `</s>` behind it, each with a `</s>` before it.
        num_parts = -(-(counts + 1) // step)
        utterance = np.repeat(np.arange(len(counts)), num_parts)
        offset = step * (np.arange(len(utterance)) - np.repeat(np.cumsum(num_parts) - num_parts, num_parts))
        lengths = np.minimum(step, counts[utterance] + 1 - offset) + 1
        kept = (lengths > 2) | (offset == 0)
        utterance, offset, lengths = utterance[kept], offset[kept], lengths[kept]
        starts, size = np.cumsum(lengths) - lengths, int(lengths.sum())
        first, places = (ends - counts)[utterance] + offset, starts + 1
        taken = np.minimum(lengths - 1, counts[utterance] - offset)
    ids = np.full(size, EOS_TOKEN_ID, dtype=np.int16 if len(vocabulary) <= 2**15 else np.int32)
    _fill(ids, _token_blocks(sequences, vocabulary), first, places, taken)
    return TokenRows(ids, starts, lengths)


def _fill(
    ids: np.ndarray, blocks: Iterator[np.ndarray], first: np.ndarray, places: np.ndarray, taken: np.ndarray
) -> None:
    """Copy `taken[i]` tokens, from the one of number `first[i]` in all blocks on, to `ids[places[i]:]`.

    `first` ascends, and no copy takes from two blocks.
    """
    before, index = 0, 0
    for block in blocks:
        end = int(np.searchsorted(first, before + len(block)))
        for source, place, count in zip(
            (first[index:end] - before).tolist(), places[index:end].tolist(), taken[index:end].tolist(), strict=True
        ):
            ids[place : place + count] = block[source : source + count]
        before, index = before + len(block), end


def _token_blocks(sequences: Sequence[Sequence[int]], vocabulary: UnitVocabulary) -> Iterator[np.ndarray]:
    if not isinstance(sequences, UnitColumn):
        yield from (np.array(vocabulary.encode(units)) for units in sequences if len(units))
        return
    known = np.array([int(symbol) for symbol in vocabulary.symbols], dtype=np.int64)
    order = np.argsort(known)
    ids = np.array(vocabulary.encode(known[order]))
    for units in sequences.blocks():
        places = np.minimum(np.searchsorted(known, units, sorter=order), len(known) - 1)
        unknown = units[known[order][places] != units]
        if len(unknown):
            # Raises, as it does for lists.
            vocabulary.encode(unknown[:1])
        yield ids[places]


def make_batches(rows: Sequence[np.ndarray], tokens_per_step: int, generator: np.random.Generator) -> list[np.ndarray]:
    """Row indices of an epoch's batches: rows of like length together, batches in random order."""
    lengths = np.fromiter(map(len, rows), dtype=np.int64) + generator.uniform(0, 4, size=len(rows))
    batches: list[np.ndarray] = []
    current: list[int] = []
    for index in np.argsort(-lengths, kind="stable"):
        longest = len(rows[current[0]]) if current else len(rows[index])
        if current and longest * (len(current) + 1) > tokens_per_step:
            batches.append(np.array(current))
            current = []
        current.append(int(index))
    batches.append(np.array(current))
    return [batches[index] for index in generator.permutation(len(batches))]


def make_packed_batches(
    rows: Sequence[np.ndarray], tokens_per_step: int, max_tokens: int, generator: np.random.Generator
) -> list[list[np.ndarray]]:
    """Lines of several rows each, in random order, and batches of such lines.

    Args:
        rows (`Sequence[np.ndarray]`): of at most `max_tokens` ids.
        tokens_per_step (`int`): bound of a batch's tokens; a batch has at least one line.
        max_tokens (`int`): bound of a line's tokens.
        generator (`np.random.Generator`): of the order.

    Returns:
        `list[list[np.ndarray]]`: batches of lines of row indices; each row occurs once.
    """
    lines: list[list[int]] = []
    room = 0
    for index in generator.permutation(len(rows)).tolist():
        if len(rows[index]) > room:
            lines.append([])
            room = max_tokens
        lines[-1].append(index)
        room -= len(rows[index])
    size = max(1, tokens_per_step // max_tokens)
    return [[np.array(line) for line in lines[start : start + size]] for start in range(0, len(lines), size)]


def disturb(
    rows: Sequence[np.ndarray],
    generator: np.random.Generator,
    unit_ids: tuple[int, int],
    *,
    replaced: float,
    left_out: float,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Rows as a model reads them, with units left out and replaced, and the rows it is to predict.

    Args:
        rows (`Sequence[np.ndarray]`): token rows of [`make_rows`].
        generator (`np.random.Generator`): of the draws.
        unit_ids (`tuple[int, int]`): the first token id that is a unit, and the one after the last.
        replaced (`float`): share of the units replaced by random ones in what is read.
        left_out (`float`): share of the units left out of both.

    Returns:
        `tuple[list[np.ndarray], list[np.ndarray]]`: pairs of rows of the same length, at least one unit in each.
    """
    first, end = unit_ids
    read, predicted = [], []
    for row in rows:
        is_unit = (row >= first) & (row < end)
        keep = ~is_unit | (generator.random(len(row)) >= left_out)
        if not (keep & is_unit).any():
            keep = np.ones(len(row), dtype=bool)
        true = row[keep]
        noisy = is_unit[keep] & (generator.random(len(true)) < replaced)
        read.append(np.where(noisy, generator.integers(first, end, size=len(true)), true))
        predicted.append(true)
    return read, predicted


def collate_rows(rows: Sequence[np.ndarray], labels: Sequence[np.ndarray] | None = None) -> dict[str, Tensor]:
    """Pads rows on the right: `input_ids`, `attention_mask`, `labels` (-100 on padding), int64 of shape (B, N).

    Args:
        rows (`Sequence[np.ndarray]`): what the model reads.
        labels (`Sequence[np.ndarray]`, *optional*): what it predicts, of the same lengths; the same rows by default.
    """
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), PAD_TOKEN_ID, dtype=torch.long)
    mask, targets = torch.zeros_like(ids), torch.full_like(ids, -100)
    for index, (row, target) in enumerate(zip(rows, labels or rows, strict=True)):
        ids[index, : len(row)] = torch.from_numpy(row)
        mask[index, : len(row)] = 1
        targets[index, : len(row)] = torch.from_numpy(target)
    return {"input_ids": ids, "attention_mask": mask, "labels": targets}


def collate_packed(
    lines: Sequence[Sequence[np.ndarray]], labels: Sequence[Sequence[np.ndarray]] | None = None
) -> dict[str, Tensor]:
    """Joins the rows of each line: `input_ids`, `position_ids`, `labels`, int64 of shape (B, N).

    Positions start anew with each row, which keeps rows of a line apart (there is no mask), and with the padding. The
    first token of a row is not predicted from the row before.

    Args:
        lines (`Sequence[Sequence[np.ndarray]]`): what the model reads.
        labels (`Sequence[Sequence[np.ndarray]]`, *optional*): what it predicts, of the same lengths; the same rows by
            default.
    """
    longest = max(sum(len(row) for row in line) for line in lines)
    ids = torch.full((len(lines), longest), PAD_TOKEN_ID, dtype=torch.long)
    positions, targets = torch.zeros_like(ids), torch.full_like(ids, -100)
    for index, (line, predicted) in enumerate(zip(lines, labels or lines, strict=True)):
        start = 0
        for row, target in zip(line, predicted, strict=True):
            end = start + len(row)
            ids[index, start:end] = torch.from_numpy(row)
            positions[index, start:end] = torch.arange(len(row))
            targets[index, start + 1 : end] = torch.from_numpy(target[1:])
            start = end
        positions[index, start:] = torch.arange(longest - start)
    return {"input_ids": ids, "position_ids": positions, "labels": targets}
