"""Cells to lines of the table: means over folds, deviation over seeds, bootstrap intervals over speakers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from .datasets import DatasetSpec
from .intervals import answer_groups, bootstrap_interval, share_interval
from .suite import Suite

__all__ = ["Line", "paired_difference", "summarize"]

_Row = tuple[str, int]
"""Fold, and number among its test rows."""


@dataclass(frozen=True)
class Line:
    """A method on a data set.

    Attributes:
        dataset (`str`): name of the data set.
        method (`str`): name of the method.
        shots (`int | None`): training rows a class.
        accuracy (`float`): over the test rows of all folds, the mean over seeds.
        deviation (`float | None`): of the accuracy over seeds; `None` with one seed.
        interval (`tuple[float, float]`): 95 % bootstrap interval of the accuracy.
        over (`str`): what was drawn anew: `"speakers"` or `"rows"`.
        macro_f1 (`float`): over the test rows of all folds, the mean over seeds.
        equal_error_rate (`float | None`): the mean over folds and seeds; `None` where there are no scores.
        validation_accuracy (`float | None`): the mean over folds and seeds; `None` without validation rows.
        difference (`float | None`): of the accuracy from the baseline's; `None` without one.
        difference_interval (`tuple[float, float] | None`): paired 95 % bootstrap interval of it.
        baseline (`str | None`): what it was compared with.
        trained_parameters (`int`): the most of a fold.
        seconds (`float`): time on the clock, as a cell's `seconds`; the median of its runs.
        cpu_seconds (`float`): time of the processor, as a cell's `cpu_seconds`; the median of its runs.
        memory (`float | None`): bytes that a run added to the process, on the GPU those of tensors; the median of its
            runs, since what is loaded at first use is counted where it is used first.
        num_seeds (`int`): seeds with all folds.
        num_planned_seeds (`int`): seeds that the suite wants.
        num_folds (`int`): folds.
        num_rows (`int`): test rows of all folds.
    """

    dataset: str
    method: str
    shots: int | None
    accuracy: float
    deviation: float | None
    interval: tuple[float, float]
    over: str
    macro_f1: float
    equal_error_rate: float | None
    validation_accuracy: float | None
    difference: float | None
    difference_interval: tuple[float, float] | None
    baseline: str | None
    trained_parameters: int
    seconds: float
    cpu_seconds: float
    memory: float | None
    num_seeds: int
    num_planned_seeds: int
    num_folds: int
    num_rows: int


@dataclass(frozen=True)
class _Answers:
    """Test rows of all folds with the share of the seeds that was right."""

    cells: tuple[Mapping[str, Any], ...]
    by_seed: tuple[tuple[Mapping[str, Any], ...], ...]
    right: Mapping[_Row, float]
    speakers: Mapping[_Row, str | None]


def summarize(suite: Suite, cells: Sequence[Mapping[str, Any]]) -> list[Line]:
    """A line for each data set, number of shots and method, in the order of the suite.

    Seeds that lack a fold of the data set's protocol are left out, and methods without a whole seed:
    `incomplete` has these.

    Args:
        suite (`Suite`): order, folds and baselines.
        cells (`Sequence[Mapping]`): contents of cells.
    """
    lines = []
    for spec in suite.datasets:
        mine = [cell for cell in cells if cell["dataset"] == spec.name]
        for shots in suite.shots or (None,):
            answers = {}
            for method in suite.methods:
                found = _answers(_of(mine, method.name, shots), spec.protocol.num_folds)
                if found is not None:
                    answers[method.name] = found
            for method in suite.methods:
                if method.name in answers:
                    baseline = suite.baseline_of(method)
                    other = answers.get(baseline) if baseline else None
                    num_seeds = len(suite.seeds_of(method))
                    lines.append(
                        _line(spec.name, method.name, shots, answers[method.name], baseline, other, num_seeds)
                    )
    return lines


def _of(cells: Sequence[Mapping[str, Any]], method: str, shots: int | None) -> list[Mapping[str, Any]]:
    return [cell for cell in cells if cell["method"] == method and cell["shots"] == shots]


def paired_difference(
    cells: Sequence[Mapping[str, Any]], dataset: DatasetSpec, method: str, other: str
) -> tuple[float, tuple[float, float]] | None:
    """By how much a method is more accurate than another one, without shots.

    Args:
        cells (`Sequence[Mapping]`): contents of cells.
        dataset (`DatasetSpec`): the data set.
        method (`str`): name of the method.
        other (`str`): of the one that it is compared with.

    Returns:
        `tuple[float, tuple[float, float]] | None`: the difference and its paired 95 % bootstrap interval; `None` where
        one of them has no whole seed, or they were measured on other rows.
    """
    mine = [cell for cell in cells if cell["dataset"] == dataset.name]
    answers = [_answers(_of(mine, name, None), dataset.protocol.num_folds) for name in (method, other)]
    return None if answers[0] is None else _difference(answers[0], answers[1])


def _answers(cells: Sequence[Mapping[str, Any]], num_folds: int) -> _Answers | None:
    seeds = sorted({cell["seed"] for cell in cells})
    by_seed = [tuple(cell for cell in cells if cell["seed"] == seed) for seed in seeds]
    whole = [each for each in by_seed if len(each) == num_folds]
    if not whole:
        return None
    right: dict[_Row, float] = {}
    speakers: dict[_Row, str | None] = {}
    for each in whole:
        for cell in each:
            predictions = cell["predictions"]
            for row, correct in enumerate(predictions["correct"]):
                place = (cell["fold"], row)
                right[place] = right.get(place, 0.0) + correct / len(whole)
                speakers[place] = predictions["speaker"][row]
    return _Answers(tuple(cell for each in whole for cell in each), tuple(whole), right, speakers)


def _line(
    dataset: str,
    method: str,
    shots: int | None,
    mine: _Answers,
    baseline: str | None,
    other: _Answers | None,
    num_planned_seeds: int,
) -> Line:
    accuracies = [_pooled(cells) for cells in mine.by_seed]
    values = np.array(list(mine.right.values()))
    groups, by_speaker = _groups(mine)
    difference, interval = _difference(mine, other) or (None, None)
    memory = [_memory(cell) for cell in mine.cells]
    known = [value for value in memory if value is not None]
    return Line(
        dataset=dataset,
        method=method,
        shots=shots,
        accuracy=float(np.mean(accuracies)),
        deviation=float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None,
        interval=share_interval(values, groups),
        over="speakers" if by_speaker else "rows",
        macro_f1=float(np.mean([_pooled_f1(cells) for cells in mine.by_seed])),
        equal_error_rate=_mean_of(mine.cells, "equal_error_rate"),
        validation_accuracy=_mean_of(mine.cells, "validation_accuracy"),
        difference=difference,
        difference_interval=interval,
        baseline=baseline if difference is not None else None,
        trained_parameters=max(cell["trained_parameters"] for cell in mine.cells),
        seconds=float(np.median([cell["seconds"] for cell in mine.cells])),
        cpu_seconds=float(np.median([cell["cpu_seconds"] for cell in mine.cells])),
        memory=float(np.median(known)) if known else None,
        num_seeds=len(mine.by_seed),
        num_planned_seeds=num_planned_seeds,
        num_folds=len(mine.by_seed[0]),
        num_rows=len(values),
    )


def _difference(mine: _Answers, other: _Answers | None) -> tuple[float, tuple[float, float]] | None:
    if other is None or not _same_rows(mine, other):
        return None
    gaps = np.array([right - other.right[place] for place, right in mine.right.items()])
    return float(gaps.mean()), bootstrap_interval(gaps, _groups(mine)[0])


def _groups(mine: _Answers) -> tuple[NDArray[np.int64], bool]:
    return answer_groups(list(mine.speakers.values()), list(mine.speakers))


def _same_rows(mine: _Answers, other: _Answers) -> bool:
    """Whether rows of the same fold and number are the same: a base that cannot take a row leaves it out.

    The digest tells, whatever the rows are called now. It knows the base that made the units; where that differs, rows
    of the same names are the same.
    """
    of_fold = {cell["fold"]: cell for cell in other.by_seed[0]}
    if other.right.keys() != mine.right.keys():
        return False
    return all(
        cell["rows"] == of_fold[cell["fold"]]["rows"]
        or cell["predictions"]["item"] == of_fold[cell["fold"]]["predictions"]["item"]
        for cell in mine.by_seed[0]
    )


def _pooled(cells: Sequence[Mapping[str, Any]]) -> float:
    """Accuracy over the test rows of all folds."""
    right = [correct for cell in cells for correct in cell["predictions"]["correct"]]
    return float(np.mean(right))


def _pooled_f1(cells: Sequence[Mapping[str, Any]]) -> float:
    expected = [label for cell in cells for label in cell["predictions"]["expected"]]
    predicted = [label for cell in cells for label in cell["predictions"]["predicted"]]
    return float(f1_score(expected, predicted, average="macro", zero_division=0))


def _mean_of(cells: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [cell[name] for cell in cells]
    return None if None in values else float(np.mean(values))


def _memory(cell: Mapping[str, Any]) -> float | None:
    """What a run added; on a GPU its tensors there."""
    if cell["cuda_peak_memory"]:
        return float(cell["cuda_peak_memory"])
    if cell["peak_memory"] is None or cell["memory_before"] is None:
        return None
    return float(cell["peak_memory"] - cell["memory_before"])
