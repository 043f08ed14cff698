"""Parts to lines of the table: accuracy over episodes, with intervals over speakers or asked recordings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..intervals import answer_groups, bootstrap_interval, share_interval
from .suite import InContextSuite

__all__ = ["InContextLine", "summarize_in_context"]

_Interval = tuple[float, float]


@dataclass(frozen=True)
class InContextLine:
    """A method on the episodes of one test set, one number of ways and one of shots.

    Attributes:
        task (`str`): name of the task.
        dataset (`str`): name of the test set.
        ways (`int`): classes in play.
        shots (`int`): examples a class.
        method (`str`): name of the method.
        accuracy (`float`): over the episodes of all seeds.
        interval (`tuple[float, float]`): 95 % bootstrap interval of it.
        deviation (`float | None`): of the accuracy over seeds, which differ in classes and speakers; `None` with one.
        over (`str`): what the bootstrap draws: `"speakers"` or `"recordings"`, those that are asked.
        chance (`float`): 1 / ways.
        shuffled (`float`): accuracy where the examples' labels are dealt out anew.
        shuffled_interval (`tuple[float, float]`): 95 % bootstrap interval of it.
        gain (`float`): what the examples' labels add: accuracy less `shuffled`, both on those episodes alone.
        gain_interval (`tuple[float, float]`): paired 95 % bootstrap interval of it.
        known (`float`): accuracy on other episodes of the rows of warm-up.
        difference (`float | None`): of the accuracy from the baseline's on the same episodes.
        difference_interval (`tuple[float, float] | None`): paired 95 % bootstrap interval of it.
        baseline (`str | None`): what it was compared with.
        trained_parameters (`int`): that warm-up changed.
        seconds (`float`): of warm-up, on the clock; the median over seeds.
        num_episodes (`int`): of all seeds.
        num_seeds (`int`): seeds that have run.
    """

    task: str
    dataset: str
    ways: int
    shots: int
    method: str
    accuracy: float
    interval: _Interval
    deviation: float | None
    over: str
    chance: float
    shuffled: float
    shuffled_interval: _Interval
    gain: float
    gain_interval: _Interval
    known: float
    difference: float | None
    difference_interval: _Interval | None
    baseline: str | None
    trained_parameters: int
    seconds: float
    num_episodes: int
    num_seeds: int


def summarize_in_context(suite: InContextSuite, parts: Sequence[Mapping[str, Any]]) -> list[InContextLine]:
    """A line for each task, test set, number of ways and shots, and method, in the order of the suite.

    Args:
        suite (`InContextSuite`): order and baseline.
        parts (`Sequence[Mapping]`): contents of parts.
    """
    lines = []
    for task in suite.tasks:
        of_method = {
            method.name: {
                part["seed"]: part for part in parts if part["task"] == task.name and part["method"] == method.name
            }
            for method in suite.methods
        }
        for dataset in task.test:
            for ways in suite.ways:
                for shots in suite.shots:
                    for method in suite.methods:
                        mine = of_method[method.name]
                        if mine:
                            baseline = suite.baseline_of(method)
                            other = of_method[baseline] if baseline else {}
                            lines.append(_line((task.name, dataset, ways, shots), method.name, mine, baseline, other))
    return lines


_Place = tuple[str, str, int, int]


def _line(
    place: _Place,
    method: str,
    parts: Mapping[int, Mapping[str, Any]],
    baseline: str | None,
    others: Mapping[int, Mapping[str, Any]],
) -> InContextLine:
    _, _, ways, _ = place
    entries = {seed: _entry(part, place) for seed, part in parts.items()}
    correct = np.concatenate([entry["correct"] for entry in entries.values()]).astype(float)
    groups, by_speaker = _groups(list(entries.values()))
    shuffled = np.concatenate([entry["shuffled"] for entry in entries.values()]).astype(float)
    by_seed = [float(np.mean(entry["correct"])) for entry in entries.values()]
    difference, interval = _difference(entries, {seed: _entry(part, place) for seed, part in others.items()})
    checked, _ = _groups(list(entries.values()), "shuffled")
    gains = np.concatenate(
        [np.subtract(each["correct"][: len(each["shuffled"])], each["shuffled"]) for each in entries.values()]
    )
    return InContextLine(
        *place,
        method=method,
        accuracy=float(correct.mean()),
        interval=share_interval(correct, groups),
        deviation=float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else None,
        over="speakers" if by_speaker else "recordings",
        chance=1 / ways,
        shuffled=float(shuffled.mean()),
        shuffled_interval=share_interval(shuffled, checked),
        gain=float(gains.mean()),
        gain_interval=bootstrap_interval(gains, checked),
        known=float(np.mean([_known(part, place) for part in parts.values()])),
        difference=difference,
        difference_interval=interval,
        baseline=baseline if difference is not None else None,
        trained_parameters=max(part["trained_parameters"] for part in parts.values()),
        seconds=float(np.median([part["seconds"] for part in parts.values()])),
        num_episodes=len(correct),
        num_seeds=len(parts),
    )


def _entry(part: Mapping[str, Any], place: _Place) -> Mapping[str, Any]:
    _, dataset, ways, shots = place
    entry: Mapping[str, Any] = next(
        each
        for each in part["measured"]
        if (each["side"], each["dataset"], each["ways"], each["shots"]) == ("test", dataset, ways, shots)
    )
    return entry


def _known(part: Mapping[str, Any], place: _Place) -> float:
    """Over all data sets of warm-up."""
    found = [
        share
        for each in part["measured"]
        if (each["side"], each["ways"], each["shots"]) == ("warm_up", *place[2:])
        for share in each["correct"]
    ]
    return float(np.mean(found))


def _groups(entries: Sequence[Mapping[str, Any]], answers: str = "correct") -> tuple[NDArray[np.int64], bool]:
    """What each episode is drawn with: who is asked where enough are known, else the recording that is asked."""
    speakers = [name for entry in entries for name in entry["speaker"][: len(entry[answers])]]
    return answer_groups(speakers, [row for entry in entries for row in entry["query"][: len(entry[answers])]])


def _difference(
    mine: Mapping[int, Mapping[str, Any]], others: Mapping[int, Mapping[str, Any]]
) -> tuple[float | None, _Interval | None]:
    """On the seeds that both have; the episodes are the same."""
    shared = [seed for seed in mine if seed in others and mine[seed]["query"] == others[seed]["query"]]
    if not shared:
        return None, None
    gaps = np.concatenate([np.subtract(mine[seed]["correct"], others[seed]["correct"]) for seed in shared])
    groups, _ = _groups([mine[seed] for seed in shared])
    return float(gaps.mean()), bootstrap_interval(gaps, groups)
