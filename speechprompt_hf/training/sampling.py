"""Batches of similar lengths, drawn anew in every epoch and the same after a resume."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

__all__ = ["LengthGroupedSampler"]

# Batches that are sorted together: more pad less, fewer are more random.
_GROUP_BATCHES = 50


class LengthGroupedSampler(Sampler[int]):
    """Row numbers in an order where rows of one update have similar lengths.

    Rows are shuffled, cut into groups of 50 updates, sorted by length within a group, and the updates shuffled. The
    order depends on seed and epoch alone, so that a run that is resumed in an epoch, or that has another number of
    processes or of accumulated batches, sees the same updates. (transformers' sampler of that name draws from the
    global generator, whose state at the start of an epoch a resumed run does not have.)

    Args:
        lengths (`Sequence[int]` of length R): tokens of each row.
        batch_size (`int`): rows of one update, over all processes and accumulated batches.
        seed (`int`, defaults to 0): of the order.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int = 0) -> None:
        self.lengths = torch.as_tensor(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of this epoch; accelerate calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator)
        groups = order.split(self.batch_size * _GROUP_BATCHES)
        order = torch.cat([group[self.lengths[group].argsort(stable=True)] for group in groups])
        batches = list(order.split(self.batch_size))
        # An incomplete update can only be the last one.
        last = batches.pop() if len(batches[-1]) < self.batch_size else order[:0]
        shuffled = [batches[index] for index in torch.randperm(len(batches), generator=generator)]
        return iter(torch.cat([*shuffled, last]).tolist())
