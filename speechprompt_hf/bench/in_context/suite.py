"""Suites of kind `in-context`, as YAML: tasks × methods × ways × shots × seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

from ...core.errors import ConfigurationError
from ..datasets import DatasetSpec
from ..declaration import read_record
from .declaration import InContextMethod, InContextTask, WarmUpSettings

__all__ = ["KIND", "InContextSuite", "read_in_context_suite"]

KIND = "in-context"
"""The value of `kind` in a suite's file."""


@dataclass(frozen=True)
class InContextSuite:
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

    def __post_init__(self) -> None:
        lists: dict[str, Sequence[Any]] = {
            "datasets": [spec.name for spec in self.datasets],
            "tasks": [task.name for task in self.tasks],
            "methods": [method.name for method in self.methods],
            "ways": self.ways,
            "shots": self.shots,
            "seeds": self.seeds,
        }
        for what, given in lists.items():
            if not given:
                raise ConfigurationError(f"{what} is empty", hint="name at least one")
            repeated = [each for index, each in enumerate(given) if each in given[:index]]
            if repeated:
                raise ConfigurationError(f"{what} has {repeated[0]!r} twice")
        if min(self.ways) < 2 or min(self.shots) < 1 or min(self.seeds) < 0 or self.check_episodes < 1:
            raise ConfigurationError(
                "a number is out of range", hint="ways from 2, shots and episodes from 1, seeds from 0"
            )
        if self.episodes < self.check_episodes:
            raise ConfigurationError(
                f"check_episodes is {self.check_episodes}, episodes is {self.episodes}", hint="at most as many"
            )
        if self.max_units is not None and self.max_units < 1:
            raise ConfigurationError(f"max_units is {self.max_units}", hint="at least 1")
        if self.baseline is not None and self.baseline not in lists["methods"]:
            raise ConfigurationError(
                f"the baseline {self.baseline!r} is none of the methods", hint=f"one of {', '.join(lists['methods'])}"
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

    def specs_of(self, task: InContextTask) -> tuple[DatasetSpec, ...]:
        """The data sets of a task, those that warm up first."""
        known = {spec.name: spec for spec in self.datasets}
        return tuple(known[name] for name in task.datasets)

    def settings_of(self, method: InContextMethod) -> WarmUpSettings:
        """The settings of a method, its own over the suite's."""
        return read_record(WarmUpSettings, {**self.settings, **method.settings}, f"settings of {method.name!r}")

    def baseline_of(self, method: InContextMethod) -> str | None:
        """The method that this one is compared with; `None` for the baseline itself."""
        return None if self.baseline == method.name else self.baseline

    def selected(self, only: Sequence[str] = (), num_seeds: int | None = None) -> InContextSuite:
        """The suite with another number of seeds, after a look at what `only` names.

        Args:
            only (`Sequence[str]`): `TASK`, `TASK/METHOD` or patterns such as `*/nearest`; see `methods_of`.
            num_seeds (`int`, *optional*): the first so many; more than there are are counted on.

        Raises:
            ConfigurationError: a text that names nothing, or no seeds.
        """
        if num_seeds is not None and num_seeds < 1:
            raise ConfigurationError(f"{num_seeds} seeds", hint="at least 1")
        for text in only:
            if not any(self._matches(text, task, method) for task in self.tasks for method in self.methods):
                raise ConfigurationError(
                    f"{text!r} in only (--only) names nothing of the suite {self.name}",
                    hint=f"tasks: {', '.join(task.name for task in self.tasks)}; "
                    f"methods: {', '.join(method.name for method in self.methods)}",
                )
        if num_seeds is None:
            return self
        last = max(self.seeds)
        return replace(self, seeds=(*self.seeds, *range(last + 1, last + 1 + num_seeds))[:num_seeds])

    def methods_of(self, task: InContextTask, only: Sequence[str]) -> tuple[InContextMethod, ...]:
        """The methods that run on a task, in the suite's order; all without `only`."""
        return tuple(
            method for method in self.methods if not only or any(self._matches(text, task, method) for text in only)
        )

    @staticmethod
    def _matches(text: str, task: InContextTask, method: InContextMethod) -> bool:
        name, mark, wanted = text.partition("/")
        return fnmatchcase(task.name, name) and (not mark or fnmatchcase(method.name, wanted))


@dataclass(frozen=True)
class _File:
    """The keys of the YAML file."""

    kind: Literal["in-context"]
    datasets: tuple[Any, ...]
    tasks: tuple[InContextTask, ...]
    methods: tuple[InContextMethod, ...]
    name: str | None = None
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


def read_in_context_suite(
    values: Any, stem: str, place: str, open_spec: Callable[[Any, str], DatasetSpec]
) -> InContextSuite:
    """A suite of this kind.

    Args:
        values (`Any`): what YAML gave.
        stem (`str`): the suite's name where the file names none.
        place (`str`): how errors call the file.
        open_spec (`Callable[[Any, str], DatasetSpec]`): what a data set's entry, which stands at the given place,
            names or declares.

    Raises:
        ConfigurationError: the declaration is wrong; the error names the place.
    """
    file = read_record(_File, values, place)
    given = {each.name: getattr(file, each.name) for each in fields(_File) if each.name != "kind"}
    given["name"] = file.name or stem
    given["datasets"] = tuple(open_spec(item, f"datasets[{index}]") for index, item in enumerate(file.datasets))
    try:
        return InContextSuite(**given)
    except ConfigurationError as error:
        raise ConfigurationError(f"{place}: {error.args[0]}", hint=error.hint) from error
