"""Suites of kind `in-context`, as YAML: tasks × methods × ways × shots × seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from ...core.errors import ConfigurationError
from ..datasets import DatasetSpec
from ..declaration import check_at_least, read_record
from ..declared_suite import DeclaredSuite
from .declaration import InContextMethod, InContextTask, WarmUpSettings

__all__ = ["KIND", "InContextSuite"]

KIND = "in-context"
"""The value of `kind` in a suite's file."""


@dataclass(frozen=True)
class InContextSuite(DeclaredSuite):
    """What is run and compared.

    Attributes:
        name (`str`): of the suite and its results.
        title (`str`): one sentence.
        datasets (`tuple[DatasetSpec, ...]`): that tasks name.
        tasks (`tuple[InContextTask, ...]`): in the order of the tables.
        methods (`tuple[InContextMethod, ...]`): in the order of the tables.
        ways (`tuple[int, ...]`, defaults to `(2, 4)`): classes in play.
        shots (`tuple[int, ...]`, defaults to `(1, 4)`): examples a class.
        seeds (`tuple[int, ...]`, defaults to `(0, 1, 2)`): of held-out classes and speakers, episodes and warm-up.
        episodes (`int`, defaults to 200): asked for each test set, ways, shots and seed.
        check_episodes (`int`, defaults to 100): of these so many are asked again with shuffled labels, and so many
            others are drawn from the rows of warm-up.
        label_tokens (`str`, defaults to `"units"`): what labels are: `"units"`, or `"spare"`: rows of the base's
            vocabulary that are neither units nor special tokens.
        max_units (`int`, *optional*): utterances are cut to so many units.
        baseline (`str`, *optional*): the method that the others are compared with.
        settings (`Mapping[str, Any]`): fields of `WarmUpSettings` of all methods.

    Raises:
        ConfigurationError: an empty list, a name twice or unknown, bases that differ within a task, a number out of
            range, or wrong settings.
    """

    name: str
    datasets: tuple[DatasetSpec, ...]
    tasks: tuple[InContextTask, ...]
    methods: tuple[InContextMethod, ...]
    title: str = ""
    ways: tuple[int, ...] = (2, 4)
    shots: tuple[int, ...] = (1, 4)
    seeds: tuple[int, ...] = (0, 1, 2)
    episodes: int = 200
    check_episodes: int = 100
    label_tokens: Literal["units", "spare"] = "units"
    max_units: int | None = None
    baseline: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    SUBJECT: ClassVar[str] = "task"
    IS_THERE: ClassVar[str] = "has all its data sets"

    def __post_init__(self) -> None:
        self.check_names(
            {
                "datasets": "data set",
                "tasks": "task",
                "methods": "method",
                "ways": "number of ways",
                "shots": "number of shots",
                "seeds": "seed",
            }
        )
        check_at_least(self, {"ways": 2, "shots": 1, "seeds": 0, "check_episodes": 1, "episodes": 1, "max_units": 1})
        if self.episodes < self.check_episodes:
            raise ConfigurationError(
                f"check_episodes is {self.check_episodes}, episodes is {self.episodes}", hint="at most as many"
            )
        for task in self.tasks:
            self._check_task(task)
        read_record(WarmUpSettings, self.settings, "settings")
        for method in self.methods:
            self.settings_of(method)

    def _check_task(self, task: InContextTask) -> None:
        known = {spec.name: spec for spec in self.datasets}
        for name in task.datasets:
            if name not in known:
                raise ConfigurationError(
                    f"the task {task.name!r} names {name!r}, which is none of the data sets",
                    hint=f"one of {', '.join(known)}",
                )
        bases = {known[name].base for name in task.datasets}
        if len(bases) > 1:
            raise ConfigurationError(
                f"the task {task.name!r} mixes units of the bases {', '.join(sorted(bases))}",
                hint="data sets of one task have units of one base",
            )

    @property
    def subjects(self) -> tuple[InContextTask, ...]:
        """What methods run on: tasks."""
        return self.tasks

    def specs_of(self, subject: InContextTask) -> tuple[DatasetSpec, ...]:
        """The data sets of a task, those that warm up first."""
        known = {spec.name: spec for spec in self.datasets}
        return tuple(known[name] for name in subject.datasets)

    def settings_of(self, method: InContextMethod) -> WarmUpSettings:
        """The settings of a method, its own over the suite's."""
        return read_record(WarmUpSettings, {**self.settings, **method.settings}, f"settings of {method.name!r}")
