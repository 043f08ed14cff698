"""A method chosen on the validation rows of some data sets, and how it does on those that had no say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .suite import Suite
from .summary import Line, paired_difference

__all__ = ["Choice", "HeldOut", "choose"]


@dataclass(frozen=True)
class HeldOut:
    """The chosen candidate on a data set that had no say.

    Attributes:
        dataset (`str`): name of the data set.
        accuracy (`float`): on its test rows.
        interval (`tuple[float, float]`): 95 % bootstrap interval of it.
        baseline (`str | None`): the method that the chosen one is compared with; `None` where the suite names none, or
            it was measured on other rows.
        difference (`float | None`): of the accuracy from the baseline's.
        difference_interval (`tuple[float, float] | None`): paired 95 % bootstrap interval of it.
        own_best (`str`): the candidate with the highest validation accuracy on this data set; the chosen one if it is
            among equals.
        own_accuracy (`float`): that one's accuracy on the test rows.
        own_difference (`float | None`): of the chosen one's accuracy from it; `None` where rows differ.
        own_interval (`tuple[float, float] | None`): paired 95 % bootstrap interval of that.
    """

    dataset: str
    accuracy: float
    interval: tuple[float, float]
    baseline: str | None
    difference: float | None
    difference_interval: tuple[float, float] | None
    own_best: str
    own_accuracy: float
    own_difference: float | None
    own_interval: tuple[float, float] | None


@dataclass(frozen=True)
class Choice:
    """What was chosen, on what, and what it is worth elsewhere.

    Attributes:
        chosen (`str`): name of the candidate with the highest mean of `validation`; of equal ones the suite's first.
        chosen_on (`tuple[str, ...]`): data sets of `choose_on` that have run, with all folds.
        lacking (`tuple[str, ...]`): data sets of `choose_on` that have not, and had no say.
        validation (`dict[str, float]`): candidate → validation accuracy, mean over `chosen_on`.
        not_compared (`tuple[str, ...]`): candidates that have not run on all of `chosen_on`.
        held_out (`tuple[HeldOut, ...]`): in the order of the suite.
    """

    chosen: str
    chosen_on: tuple[str, ...]
    lacking: tuple[str, ...]
    validation: dict[str, float]
    not_compared: tuple[str, ...]
    held_out: tuple[HeldOut, ...]


def choose(suite: Suite, cells: Sequence[Mapping[str, Any]], lines: Sequence[Line]) -> Choice | None:
    """Choose among the candidates of a suite by validation accuracy, and read the test rows of the held-out sets.

    Test rows of the data sets that choose, and of the candidates that lose, say nothing here.

    Args:
        suite (`Suite`): with `choose_on`.
        cells (`Sequence[Mapping]`): contents of cells.
        lines (`Sequence[Line]`): of these cells, from `summarize`.

    Returns:
        `Choice | None`: `None` where nothing is to be chosen, or no candidate has run.
    """
    by_place = {(line.dataset, line.method): line for line in lines}
    validation = {
        (line.dataset, line.method): line.validation_accuracy
        for line in lines
        if line.method in suite.candidates and line.validation_accuracy is not None
    }
    chosen_on = tuple(name for name in suite.choose_on if any(dataset == name for dataset, _ in validation))
    means = {
        name: sum(validation[dataset, name] for dataset in chosen_on) / len(chosen_on)
        for name in suite.candidates
        if chosen_on and all((dataset, name) in validation for dataset in chosen_on)
    }
    if not means:
        return None
    chosen = max(means, key=means.__getitem__)
    held_out = []
    for spec in suite.datasets:
        own = {name: validation[spec.name, name] for name in suite.candidates if (spec.name, name) in validation}
        if spec.name in suite.choose_on or chosen not in own:
            continue
        line = by_place[spec.name, chosen]
        own_best = max(own, key=lambda name: (own[name], name == chosen))
        difference, interval = paired_difference(cells, spec, chosen, own_best) or (None, None)
        held_out.append(
            HeldOut(
                dataset=spec.name,
                accuracy=line.accuracy,
                interval=line.interval,
                baseline=line.baseline,
                difference=line.difference,
                difference_interval=line.difference_interval,
                own_best=own_best,
                own_accuracy=by_place[spec.name, own_best].accuracy,
                own_difference=difference,
                own_interval=interval,
            )
        )
    return Choice(
        chosen=chosen,
        chosen_on=chosen_on,
        lacking=tuple(name for name in suite.choose_on if name not in chosen_on),
        validation=means,
        not_compared=tuple(name for name in suite.candidates if name not in means),
        held_out=tuple(held_out),
    )
