"""The record of one classification task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..core.errors import LabelError

__all__ = ["Metric", "Task", "task_from_labels"]

Metric = Literal["accuracy", "macro_f1"]


@dataclass(frozen=True)
class Task:
    """A classification task.

    Attributes:
        name (`str`): short name, used in file names and reports.
        labels (`tuple[str, ...]` of length M): class names; the position is the class index.
        label_sequences (`tuple[tuple[int, ...], ...]`, *optional*): M rows of k label-token ids, for tasks whose
            class is a combination of several labels (intent: action, object, location). `None` is one label a class.
        label_columns (`tuple[str, ...]`, defaults to `("label",)`): the columns that hold the label; the values of
            several columns are joined by a blank.
        metric (`str`, defaults to `"accuracy"`): what early stopping watches.

    Raises:
        LabelError: fewer than two labels, a label twice, or label sequences that do not fit the labels.
    """

    name: str
    labels: tuple[str, ...]
    label_sequences: tuple[tuple[int, ...], ...] | None = None
    label_columns: tuple[str, ...] = ("label",)
    metric: Metric = "accuracy"

    def __post_init__(self) -> None:
        if len(self.labels) < 2:
            raise LabelError(
                f"task {self.name!r} has {len(self.labels)} label(s): {list(self.labels)}",
                hint="a classification task needs at least two labels",
            )
        repeated = sorted({label for label in self.labels if self.labels.count(label) > 1})
        if repeated:
            raise LabelError(f"task {self.name!r} names these labels twice: {repeated}")
        if self.metric not in ("accuracy", "macro_f1"):
            raise LabelError(f"metric {self.metric!r} is unknown", hint="accuracy or macro_f1")
        if self.label_sequences is not None:
            self._check_label_sequences(self.label_sequences)

    def _check_label_sequences(self, sequences: tuple[tuple[int, ...], ...]) -> None:
        if len(sequences) != len(self.labels):
            raise LabelError(f"task {self.name!r} has {len(self.labels)} labels and {len(sequences)} label sequences")
        lengths = {len(sequence) for sequence in sequences}
        if len(lengths) != 1 or 0 in lengths:
            raise LabelError(f"the label sequences of task {self.name!r} have lengths {sorted(lengths)}, not one")
        if len(set(sequences)) != len(sequences):
            raise LabelError(f"two labels of task {self.name!r} have the same label sequence")

    @property
    def num_labels(self) -> int:
        """Number of classes M."""
        return len(self.labels)

    @property
    def id2label(self) -> dict[int, str]:
        """Class index → class name, as transformers' configurations hold it."""
        return dict(enumerate(self.labels))

    @property
    def label2id(self) -> dict[str, int]:
        """Class name → class index."""
        return {label: index for index, label in enumerate(self.labels)}

    @property
    def num_label_positions(self) -> int:
        """Labels an utterance has: 1, or k with label sequences."""
        return len(self.label_sequences[0]) if self.label_sequences else 1

    def index_of(self, label: Any) -> int:
        """The class index of a label.

        Raises:
            LabelError: the task has no such label.
        """
        try:
            return self.labels.index(str(label))
        except ValueError:
            raise LabelError(
                f"label {label!r} is not among the {self.num_labels} labels of task {self.name!r}",
                hint=f"known labels: {', '.join(self.labels[:20])}",
            ) from None

    def label_of(self, row: Mapping[str, Any]) -> str:
        """The label of a data set's row: the values of `label_columns`, joined by a blank."""
        return " ".join(str(row[column]) for column in self.label_columns)


def task_from_labels(
    labels: Iterable[Any],
    *,
    name: str = "classification",
    label_columns: tuple[str, ...] = ("label",),
    metric: Metric = "accuracy",
) -> Task:
    """A task made from the labels of a data set.

    Args:
        labels (`Iterable`): the label of every row; numbers become their decimal text.
        name (`str`, defaults to `"classification"`): the task's name.
        label_columns (`tuple[str, ...]`, defaults to `("label",)`): where the labels stand.
        metric (`str`, defaults to `"accuracy"`): what early stopping watches.

    Returns:
        `Task`: the distinct labels in sorted order, whole numbers by value.

    Raises:
        LabelError: fewer than two distinct labels.
    """
    distinct = {str(label) for label in labels}
    if all(label.lstrip("-").isdecimal() for label in distinct):
        ordered = sorted(distinct, key=int)
    else:
        ordered = sorted(distinct)
    return Task(name=name, labels=tuple(ordered), label_columns=label_columns, metric=metric)
