"""The rows of a task: units of all its data sets, and which of them warm up and which are asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...core.digest import sha256_of_json
from ...core.errors import DatasetError
from ..declaration import placed
from ..loading import OpenedDataset
from .declaration import InContextTask
from .episodes import Pool, split_rows

__all__ = ["Material", "Sides"]


@dataclass(frozen=True)
class Sides:
    """What a seed makes of a task's rows.

    Attributes:
        warm_up (`dict[str, Pool]`): data set → rows that warm up.
        test (`dict[str, Pool]`): data set → rows that are told and asked in the test.
    """

    warm_up: dict[str, Pool]
    test: dict[str, Pool]

    def description(self) -> dict[str, Any]:
        """Classes, speakers and rows of every pool, for files."""
        return {
            side: {
                name: {
                    "classes": list(pool.classes),
                    "num_speakers": len(set(pool.speakers) - {None}),
                    "num_rows": len(pool.rows),
                    # Of parts that were finished before this was noted, all speakers are known.
                    **({"num_without_speaker": pool.speakers.count(None)} if None in pool.speakers else {}),
                }
                for name, pool in pools.items()
            }
            for side, pools in (("warm_up", self.warm_up), ("test", self.test))
        }


@dataclass(frozen=True)
class Material:
    """Rows of all data sets of a task, one after the other.

    Attributes:
        task (`InContextTask`): its declaration.
        units (`list[list[int]]` of length R): units of every row, cut to `max_units`.
        pools (`dict[str, Pool]`): data set → its rows.
        digest (`str`): SHA-256 over units, labels and speakers.
        notes (`tuple[str, ...]`): classes and known speakers that data sets of both sides have in common, by name.
    """

    task: InContextTask
    units: list[list[int]]
    pools: dict[str, Pool]
    digest: str
    notes: tuple[str, ...]

    @classmethod
    def of(cls, task: InContextTask, opened: Mapping[str, OpenedDataset], max_units: int | None) -> Material:
        """The rows of a task.

        Args:
            task (`InContextTask`): its declaration.
            opened (`Mapping[str, OpenedDataset]`): its data sets.
            max_units (`int`, *optional*): utterances are cut to so many units.

        Raises:
            DatasetError: a row of a data set that warms up is one of another data set that is asked.
        """
        units: list[list[int]] = []
        pools: dict[str, Pool] = {}
        for name in task.datasets:
            rows = opened[name].rows
            pools[name] = Pool.of(list(rows["label"]), list(rows["speaker"]), first_row=len(units))
            units += [list(row)[:max_units] for row in rows["units"]]
        labels = [[pool.labels, pool.speakers] for pool in pools.values()]
        notes: dict[str, None] = {}
        for warm_up in task.warm_up:
            for test in task.test:
                if warm_up != test:
                    _refuse_shared_rows(warm_up, test, opened)
                    notes.update(dict.fromkeys(_shared_names(min(warm_up, test), max(warm_up, test), pools)))
        return cls(task, units, pools, sha256_of_json([units, labels]), tuple(notes))

    def sides(self, seed: int) -> Sides:
        """Which rows warm up and which are asked.

        A data set that does both is divided: no class and no known speaker is on both sides.

        Args:
            seed (`int`): of the held-out classes and speakers.

        Raises:
            DatasetError: too few classes or speakers to hold some out.
        """
        warm_up, test = {}, {}
        for name, pool in self.pools.items():
            if name in self.task.warm_up and name in self.task.test:
                with placed(name):
                    split = split_rows(
                        pool,
                        test_classes=self.task.test_classes,
                        test_speakers=self.task.test_speakers,
                        seed=seed,
                    )
                warm_up[name], test[name] = split.warm_up, split.test
            elif name in self.task.warm_up:
                warm_up[name] = pool
            else:
                test[name] = pool
        return Sides(warm_up, test)


def _refuse_shared_rows(warm_up: str, test: str, opened: Mapping[str, OpenedDataset]) -> None:
    """Rows are equal by their whole units and their label."""
    rows = [
        {
            (tuple(units), label)
            for units, label in zip(opened[name].rows["units"], opened[name].rows["label"], strict=True)
        }
        for name in (warm_up, test)
    ]
    if shared := rows[0] & rows[1]:
        raise DatasetError(
            f"{len(shared)} row(s) of {test}, which is asked, are also in {warm_up}, which warms up: equal units, "
            f"label {min(label for _, label in shared)!r}",
            hint="leave them out of one of the two, or name one data set on both sides, which is then divided",
        )


def _shared_names(one: str, other: str, pools: Mapping[str, Pool]) -> list[str]:
    classes = sorted(set(pools[one].classes) & set(pools[other].classes))
    speakers = sorted((set(pools[one].speakers) & set(pools[other].speakers)) - {None}, key=str)
    return [
        f"{one} and {other} have {len(names)} {what} of the same name: {', '.join(map(str, names[:8]))}"
        + (", …" if len(names) > 8 else "")
        for what, names in (("class(es)", classes), ("speaker(s)", speakers))
        if names
    ]
