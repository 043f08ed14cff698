"""A suite: data sets × methods × shots × seeds, as YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ..core.errors import ConfigurationError
from ..training.settings import TrainingSettings
from .datasets import DatasetSpec, ready_datasets
from .declaration import check_at_least, check_keys, placed, read_record, read_yaml
from .declared_suite import DeclaredSuite
from .in_context.suite import KIND, InContextSuite
from .methods import READY_METHODS, Method

__all__ = ["Suite", "read_suite", "ready_suites"]

_FOLDER = Path(__file__).with_name("suites")


@dataclass(frozen=True)
class Suite(DeclaredSuite):
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
        nouns = {"datasets": "data set", "methods": "method", "seeds": "seed", "shots": "number of shots"}
        self.check_names(nouns, may_be_empty=("shots",))
        check_at_least(self, {"seeds": 0, "shots": 1, "min_updates": 0})
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
    kind: type[Suite] | type[InContextSuite] = Suite
    ready: dict[str, tuple[Any, Mapping[str, Any]]] = {"datasets": (DatasetSpec, ready_datasets())}
    if isinstance(given, Mapping):
        given = {**given, "name": given.get("name") or path.stem}
        if given.get("kind") == KIND:
            kind = InContextSuite
            del given["kind"]
        else:
            ready["methods"] = (Method, READY_METHODS)
    check_keys(kind, given, place)
    for key, (record, known) in ready.items():
        if isinstance(given[key], list):
            given[key] = [_entry(record, known, item, f"{key}[{n}]", place) for n, item in enumerate(given[key])]
    return read_record(kind, given, place)


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
        with placed(f"{place}: {where}"):
            return replace(origin, **new)
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
