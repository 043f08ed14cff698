"""A suite: data sets × methods × shots × seeds, as YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from ..core.errors import ConfigurationError
from ..training.settings import TrainingSettings
from .datasets import DatasetSpec, ready_datasets
from .declaration import read_record, read_yaml
from .in_context.suite import KIND, InContextSuite, read_in_context_suite
from .methods import READY_METHODS, Method

__all__ = ["Suite", "methods_of", "read_suite", "ready_suites", "selected"]

_FOLDER = Path(__file__).with_name("suites")


@dataclass(frozen=True)
class Suite:
    """What is run and compared.

    Attributes:
        name (`str`): of the suite and its results.
        title (`str`): one sentence.
        datasets (`tuple[DatasetSpec, ...]`): in the order of the tables.
        methods (`tuple[Method, ...]`): in the order of the tables.
        seeds (`tuple[int, ...]`, defaults to `(0, 1, 2)`): of training, and of the rows drawn with `shots`.
        shots (`tuple[int, ...]`): so many training rows a class; all rows without it.
        baseline (`str`, *optional*): the method that the others are compared with.
        selection (`str`, defaults to `"last"`): `"last"`: all training rows train, the last epoch is kept;
            `"best"`: the epoch that is best on validation rows, which are taken out of the training rows where the
            data set has none.
        settings (`Mapping[str, Any]`): fields of `TrainingSettings` of all trained methods.
        min_updates (`int`, defaults to 0): few rows get more epochs, until there are so many updates.
        choose_on (`tuple[str, ...]`): data sets on whose validation rows the candidates compete; the one that wins is
            reported on the other data sets. Nothing is chosen without it.

    Raises:
        ConfigurationError: an empty list, a name twice, an unknown baseline, wrong settings, or nothing to choose from
            or to report on.
    """

    name: str
    datasets: tuple[DatasetSpec, ...]
    methods: tuple[Method, ...]
    title: str = ""
    seeds: tuple[int, ...] = (0, 1, 2)
    shots: tuple[int, ...] = ()
    baseline: str | None = None
    selection: Literal["last", "best"] = "last"
    settings: Mapping[str, Any] = field(default_factory=dict)
    min_updates: int = 0
    choose_on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name or not self.name.replace("-", "").replace("_", "").isalnum():
            raise ConfigurationError(f"the suite is called {self.name!r}", hint="letters, digits, - and _")
        for what, names in (
            ("data set", [spec.name for spec in self.datasets]),
            ("method", [method.name for method in self.methods]),
            ("seed", list(self.seeds)),
            ("number of shots", list(self.shots)),
        ):
            repeated = [name for index, name in enumerate(names) if name in names[:index]]
            if repeated:
                raise ConfigurationError(f"the {what} {repeated[0]!r} is named twice")
        for what, given in (("datasets", self.datasets), ("methods", self.methods), ("seeds", self.seeds)):
            if not given:
                raise ConfigurationError(f"{what} is empty", hint="name at least one")
        if min(self.seeds) < 0 or min(self.shots, default=1) < 1 or self.min_updates < 0:
            raise ConfigurationError("a number is out of range", hint="seeds from 0, shots from 1, min_updates from 0")
        for named in (self.baseline, *(method.baseline for method in self.methods)):
            if named is not None and named not in {method.name for method in self.methods}:
                raise ConfigurationError(
                    f"the baseline {named!r} is none of the methods",
                    hint=f"one of {', '.join(method.name for method in self.methods)}",
                )
        read_record(TrainingSettings, self.settings, "settings")
        for method in self.methods:
            read_record(TrainingSettings, {**self.settings, **method.settings}, f"settings of {method.name!r}")
        if self.choose_on:
            self._check_choice()

    def _check_choice(self) -> None:
        names = [spec.name for spec in self.datasets]
        for name in self.choose_on:
            if name not in names:
                raise ConfigurationError(
                    f"choose_on names {name!r}, which is none of the data sets", hint=f"one of {', '.join(names)}"
                )
            if self.choose_on.count(name) > 1:
                raise ConfigurationError(f"choose_on names {name!r} twice")
        if len(self.choose_on) == len(names):
            raise ConfigurationError("choose_on names all data sets", hint="leave some to report the choice on")
        if self.selection != "best" or self.shots:
            raise ConfigurationError(
                "choose_on needs validation rows of whole training parts", hint="selection: best, and no shots"
            )
        if len(self.candidates) < 2:
            raise ConfigurationError(
                f"choose_on has {len(self.candidates)} candidate(s): {', '.join(self.candidates) or 'none'}",
                hint="name two trained methods or more that are no baseline",
            )

    @property
    def candidates(self) -> tuple[str, ...]:
        """Names of the methods that `choose_on` chooses from: the trained ones that are no baseline."""
        baselines = {self.baseline, *(method.baseline for method in self.methods)}
        return tuple(method.name for method in self.methods if method.is_trained and method.name not in baselines)

    def seeds_of(self, method: Method) -> tuple[int, ...]:
        """The seeds that a method runs with: a baseline that draws nothing has the first one alone."""
        draws = method.is_trained or method.untrained or bool(self.shots)
        return self.seeds if draws else self.seeds[:1]

    def baseline_of(self, method: Method) -> str | None:
        """The method that this one is compared with; `None` for the baseline itself."""
        name = method.baseline or self.baseline
        return None if name == method.name else name


@dataclass(frozen=True)
class _SuiteFile:
    """The keys of a suite's YAML file."""

    datasets: tuple[Any, ...]
    methods: tuple[Any, ...]
    name: str | None = None
    title: str = ""
    seeds: tuple[int, ...] = (0, 1, 2)
    shots: tuple[int, ...] = ()
    baseline: str | None = None
    selection: Literal["last", "best"] = "last"
    settings: Mapping[str, Any] = field(default_factory=dict)
    min_updates: int = 0
    choose_on: tuple[str, ...] = ()


def ready_suites() -> tuple[str, ...]:
    """Names of the suites inside the package."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def read_suite(name_or_path: str) -> Suite | InContextSuite:
    """A ready suite by its name, or a user's own by its path.

    Args:
        name_or_path (`str`): for example `"classification"` or `"mine.yaml"`.

    Returns:
        `Suite | InContextSuite`: the latter of a file with `kind: in-context`.

    Raises:
        ConfigurationError: there is no such suite, or its declaration is wrong; the error names the place.
    """
    path = Path(name_or_path)
    if name_or_path in ready_suites():
        path = _FOLDER / f"{name_or_path}.yaml"
    elif path.suffix not in (".yaml", ".yml"):
        raise ConfigurationError(
            f"there is no suite {name_or_path!r}",
            hint=f"one of {', '.join(ready_suites())}, or the path of a .yaml file",
        )
    place = path.name
    given = read_yaml(path)
    if isinstance(given, Mapping) and given.get("kind") == KIND:
        return read_in_context_suite(
            given, path.stem, place, lambda item, where: _entry(DatasetSpec, ready_datasets(), item, where, place)
        )
    values = read_record(_SuiteFile, given, place)
    fields = {key: getattr(values, key) for key in _SuiteFile.__dataclass_fields__}
    fields["name"] = values.name or path.stem
    fields["datasets"] = [_entry(DatasetSpec, ready_datasets(), *item, place) for item in _places(values, "datasets")]
    fields["methods"] = [_entry(Method, READY_METHODS, *item, place) for item in _places(values, "methods")]
    fields["datasets"], fields["methods"] = tuple(fields["datasets"]), tuple(fields["methods"])
    try:
        return Suite(**fields)
    except ConfigurationError as error:
        raise ConfigurationError(f"{place}: {error.args[0]}", hint=error.hint) from error


def _places(values: _SuiteFile, name: str) -> list[tuple[Any, str]]:
    return [(item, f"{name}[{index}]") for index, item in enumerate(getattr(values, name))]


def _entry(kind: Any, ready: Mapping[str, Any], value: Any, where: str, place: str) -> Any:
    """What a text names, or what a mapping declares; a mapping with `like` changes something ready."""
    what = "data set" if kind is DatasetSpec else "method"
    if isinstance(value, str):
        return _named(ready, value, what, f"{place}: {where}")
    if isinstance(value, Mapping) and "like" in value:
        given = {key: item for key, item in value.items() if key != "like"}
        origin = _named(ready, value["like"], what, f"{place}: {where}: like")
        known = {key: getattr(origin, key) for key in origin.__dataclass_fields__}
        # Only to check keys and types of what is given.
        changed = read_record(kind, {**_needed(kind, origin), **given}, f"{place}: {where}")
        new = {key: getattr(changed, key) for key in given}
        for key in ("settings", "model"):
            if key in new:
                new[key] = {**known[key], **new[key]}
        try:
            return replace(origin, **new)
        except ConfigurationError as error:
            raise ConfigurationError(f"{place}: {where}: {error.args[0]}", hint=error.hint) from error
    return read_record(kind, value, f"{place}: {where}")


def _needed(kind: Any, origin: Any) -> dict[str, Any]:
    if kind is Method:
        return {"name": origin.name, "kind": origin.kind}
    if origin.folder is not None:
        return {"name": origin.name, "folder": origin.folder}
    return {"name": origin.name, "synthetic": {}}


def _named(ready: Mapping[str, Any], name: Any, what: str, place: str) -> Any:
    if name not in ready:
        raise ConfigurationError(f"{place}: there is no {what} {name!r}", hint=f"one of {', '.join(ready)}")
    return ready[name]


def selected(suite: Suite, only: Sequence[str] = (), num_seeds: int | None = None) -> Suite:
    """A suite with another number of seeds, after a look at what `only` names.

    Args:
        suite (`Suite`): the whole.
        only (`Sequence[str]`): `DATASET`, `DATASET/METHOD` or patterns such as `*/tfidf`; see `methods_of`.
        num_seeds (`int`, *optional*): the first so many seeds; more than the suite has are counted on.

    Returns:
        `Suite`: with these seeds.

    Raises:
        ConfigurationError: a text that names nothing.
    """
    seeds = suite.seeds
    if num_seeds is not None:
        if num_seeds < 1:
            raise ConfigurationError(f"{num_seeds} seeds", hint="at least 1")
        further = (seed for seed in range(max(suite.seeds) + 1, max(suite.seeds) + 1 + num_seeds))
        seeds = (*suite.seeds, *further)[:num_seeds]
    for text in only:
        if not any(_matches((text,), spec, method) for spec in suite.datasets for method in suite.methods):
            raise ConfigurationError(
                f"{text!r} in only (--only) names nothing of the suite {suite.name}",
                hint=f"data sets: {', '.join(spec.name for spec in suite.datasets)}; "
                f"methods: {', '.join(method.name for method in suite.methods)}",
            )
    return replace(suite, seeds=tuple(seeds))


def _matches(only: Sequence[str], spec: DatasetSpec, method: Method) -> bool:
    """Whether a method on a data set is among what was asked for."""
    if not only:
        return True
    for text in only:
        dataset, mark, name = text.partition("/")
        if fnmatchcase(spec.name, dataset) and (not mark or fnmatchcase(method.name, name)):
            return True
    return False


def methods_of(suite: Suite, spec: DatasetSpec, only: Sequence[str]) -> tuple[Method, ...]:
    """The methods that run on a data set, in the suite's order.

    Args:
        suite (`Suite`): the suite.
        spec (`DatasetSpec`): one of its data sets.
        only (`Sequence[str]`): see `selected`.
    """
    return tuple(method for method in suite.methods if _matches(only, spec, method))
