"""Methods that lack a fold on a data set: they are shown as such, without a mean over what is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .suite import Suite

__all__ = ["Incomplete", "incomplete"]


@dataclass(frozen=True)
class Incomplete:
    """A method that has no seed with all folds on a data set: of it nothing is averaged.

    Attributes:
        dataset (`str`): name of the data set.
        method (`str`): name of the method.
        shots (`int | None`): training rows a class.
        num_done (`int`): folds of the seed that has most.
        num_folds (`int`): folds that the data set has.
    """

    dataset: str
    method: str
    shots: int | None
    num_done: int
    num_folds: int


def incomplete(
    suite: Suite, cells: Sequence[Mapping[str, Any]], planned: Sequence[tuple[str, str, int | None]] = ()
) -> list[Incomplete]:
    """What has no line because every seed lacks a fold, in the order of the suite.

    Args:
        suite (`Suite`): order and folds.
        cells (`Sequence[Mapping]`): contents of cells.
        planned (`Sequence[tuple[str, str, int | None]]`): data set, method and shots of what was to run; what has some
            cell is known without it.
    """
    begun = {*planned, *((cell["dataset"], cell["method"], cell["shots"]) for cell in cells)}
    found = []
    for spec in suite.datasets:
        mine = [cell for cell in cells if cell["dataset"] == spec.name]
        for shots in suite.shots or (None,):
            for method in suite.methods:
                if (spec.name, method.name, shots) not in begun:
                    continue
                chosen = (cell for cell in mine if cell["method"] == method.name and cell["shots"] == shots)
                folds = Counter(cell["seed"] for cell in chosen)
                most = max(folds.values(), default=0)
                if most < spec.protocol.num_folds:
                    found.append(Incomplete(spec.name, method.name, shots, most, spec.protocol.num_folds))
    return found
