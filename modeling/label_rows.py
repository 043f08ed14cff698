"""Classes as sequences of labels, and the prefix tree over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["LabelRows", "PrefixTree"]


@dataclass(frozen=True)
class PrefixTree:
    """All proper prefixes of the label sequences, shortest first: T nodes without the empty prefix.

    Attributes:
        rows (`tuple[int, ...]` of length T): the verbalizer row of each node's last label.
        depths (`tuple[int, ...]` of length T): labels in each node's prefix, 1 … k - 1.
        parents (`tuple[int, ...]` of length T): the node of the prefix without its last label, -1 for the empty one.
        node_of_class (`Tensor` of shape `(M, k - 1)`, int64): the nodes on the way to each class.
    """

    rows: tuple[int, ...]
    depths: tuple[int, ...]
    parents: tuple[int, ...]
    node_of_class: Tensor

    @cached_property
    def visible(self) -> Tensor:
        """Which nodes a node sees, itself and those above it: bool of shape `(T, T)`."""
        seen = torch.eye(len(self.rows), dtype=torch.bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                seen[node] |= seen[parent]
        return seen


class LabelRows:
    """Verbalizer rows of classes: one row for each label that occurs at a position.

    Rows of a position are contiguous and in ascending order of their label tokens; with one position and no label
    sequences row and class are the same number.

    Args:
        num_classes (`int`): M.
        label_sequences (`Sequence[Sequence[int]]`, *optional*): M rows of k label-token ids.
    """

    def __init__(self, num_classes: int, label_sequences: Sequence[Sequence[int]] | None = None) -> None:
        sequences = label_sequences if label_sequences is not None else [[index] for index in range(num_classes)]
        self.num_positions = len(sequences[0])
        self.labels: list[tuple[int, int]] = []
        """Position and label token of every row."""
        self.slices: list[slice] = []
        """Rows of every position."""
        row_of_label: dict[tuple[int, int], int] = {}
        for position in range(self.num_positions):
            start = len(self.labels)
            for token in sorted({sequence[position] for sequence in sequences}):
                row_of_label[position, token] = len(self.labels)
                self.labels.append((position, token))
            self.slices.append(slice(start, len(self.labels)))
        self.row_of_class = torch.tensor(
            [[row_of_label[position, token] for position, token in enumerate(sequence)] for sequence in sequences]
        )
        """`LongTensor` of shape `(M, k)`."""

    def __len__(self) -> int:
        """Number of rows R."""
        return len(self.labels)

    @property
    def label_tokens(self) -> list[int]:
        """The distinct label tokens, ascending."""
        return sorted({token for _, token in self.labels})

    @cached_property
    def tree(self) -> PrefixTree:
        """The prefix tree of the classes."""
        nodes: dict[tuple[int, ...], int] = {}
        for length in range(1, self.num_positions):
            for rows in self.row_of_class.tolist():
                nodes.setdefault(tuple(rows[:length]), len(nodes))
        return PrefixTree(
            rows=tuple(prefix[-1] for prefix in nodes),
            depths=tuple(len(prefix) for prefix in nodes),
            parents=tuple(nodes.get(prefix[:-1], -1) for prefix in nodes),
            node_of_class=torch.tensor(
                [
                    [nodes[tuple(rows[:length])] for length in range(1, self.num_positions)]
                    for rows in self.row_of_class.tolist()
                ],
                dtype=torch.long,
            ).view(len(self.row_of_class), self.num_positions - 1),
        )
