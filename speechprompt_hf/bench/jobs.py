"""Running jobs of any suite: each once, whoever computes it; what fails or is missing is noted and costs no other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from filelock import Timeout

from ..core.errors import DatasetError, SpeechPromptError
from .bases import Base
from .datasets import DatasetSpec
from .declared_suite import DeclaredSuite
from .loading import OpenedDataset, open_dataset
from .measure import quick_collection
from .store import Keyed, ResultStore

__all__ = ["Failure", "Job", "Run", "Skipped", "compute_jobs", "open_shared", "present"]

_WAIT = 0.5
"""Seconds between two looks at results that other processes compute."""

Result = TypeVar("Result", bound=Keyed)


@dataclass(frozen=True)
class Skipped:
    """What was not run.

    Attributes:
        dataset (`str`): name of the data set, of in-context suites of the task.
        method (`str | None`): name of the method; `None` for all of them.
        reason (`str`): what is missing.
    """

    dataset: str
    method: str | None
    reason: str


@dataclass(frozen=True)
class Failure:
    """A result or a data set that ended with an error; it is tried again by the next run.

    Attributes:
        cell (`str`): label of the result, or name of the data set.
        error (`str`): name of the error class and its message.
    """

    cell: str
    error: str


def _say_nothing(text: str) -> None:
    pass


@dataclass(kw_only=True)
class Run:
    """What runs of all suites note beside their results.

    Attributes:
        skipped (`list[Skipped]`): data sets or tasks, and methods, that could not run here.
        failed (`list[Failure]`): results that ended with an error, and data sets that could not be opened.
        left_out (`dict[str, int]`): data set → recordings that could not be used.
        num_computed (`int`): results that this process computed.
        is_first_process (`bool`): whether this process writes the results.
        say (`Callable[[str], None]`): receives lines of progress.
    """

    skipped: list[Skipped] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    num_computed: int = 0
    is_first_process: bool = True
    say: Callable[[str], None] = field(default=_say_nothing, repr=False, compare=False)

    def skip(self, name: str, method: str | None, reason: str) -> None:
        """Note what cannot run here."""
        self.skipped.append(Skipped(name, method, reason))
        self.say(f"{name}{'/' + method if method else ''} is skipped: {reason}")

    def fail(self, label: str, error: Exception) -> None:
        """Note what ended with an error."""
        message = error.args[0] if isinstance(error, SpeechPromptError) else error
        self.failed.append(Failure(label, " ".join(f"{type(error).__name__}: {message}".split())))
        self.say(f"{label} failed: {self.failed[-1].error}")

    def remarks(self) -> dict[str, list[str]]:
        """Heading → remarks on what did not run."""
        return {
            "Skipped": [
                f"{each.dataset}{'/' + each.method if each.method else ''}: {each.reason}" for each in self.skipped
            ],
            "Left out": [f"{name}: {number} recording(s) could not be used" for name, number in self.left_out.items()],
            "Failed": [f"{failure.cell}: {failure.error}" for failure in self.failed],
        }

    def remarks_as_json(self) -> dict[str, Any]:
        """The same for `summary.json`."""
        return {
            "skipped": [asdict(skip) for skip in self.skipped],
            "left_out": self.left_out,
            "failed": [asdict(failure) for failure in self.failed],
        }


def present(
    suite: DeclaredSuite, only: Sequence[str], data_root: Path | None, run: Run
) -> list[tuple[Any, tuple[Any, ...]]]:
    """What of a suite has its data sets, with the methods that were asked for.

    Args:
        suite (`DeclaredSuite`): the suite.
        only (`Sequence[str]`): see `DeclaredSuite.methods_of`.
        data_root (`Path`, *optional*): the folder that holds data sets.
        run (`Run`): notes what is missing.

    Raises:
        DatasetError: nothing is there.
    """
    there = []
    for subject in suite.subjects:
        methods = suite.methods_of(subject, only)
        missing = [str(spec.folder) for spec in suite.specs_of(subject) if not spec.is_there(data_root)]
        if methods and missing:
            known = data_root is not None
            reason = f"there is no {', '.join(missing)} in the data root" if known else "no data root was given"
            run.skip(subject.name, None, reason)
        elif methods:
            there.append((subject, methods))
    if not there:
        raise DatasetError(
            f"not one {suite.SUBJECT} of the suite {suite.name} {suite.IS_THERE}: "
            + "; ".join(f"{skip.dataset}: {skip.reason}" for skip in run.skipped),
            hint="data_root (--data-root) names the folder that holds them; the suite smoke needs no data",
        )
    return there


def open_shared(
    spec: DatasetSpec,
    data_root: Path | None,
    base: Base | None,
    store: ResultStore,
    run: Run,
    *,
    base_name: str | None = None,
    choose_epoch: bool = False,
) -> OpenedDataset | None:
    """Open a data set while no other process does; `None` where that ends with an error, which is noted.

    Args:
        spec (`DatasetSpec`): what to read.
        data_root (`Path`, *optional*): the folder that holds data sets.
        base (`Base`, *optional*): makes the units of recordings.
        store (`ResultStore`): its folder holds the cache of units.
        run (`Run`): notes errors and rows that are left out.
        base_name (`str`, *optional*): of a base in the place of the data set's own.
        choose_epoch (`bool`, defaults to `False`): see `open_dataset`.
    """
    name = base_name or spec.base
    try:
        # One process makes the units, the others find them in the cache.
        with store.lock(f"units-{spec.name}-{name}"):
            opened = open_dataset(
                spec, data_root, base, cache_dir=store.work / "cache", choose_epoch=choose_epoch, progress=True
            )
    except SpeechPromptError as error:  # one data set that fails must not cost the others
        run.fail(spec.name if name == spec.base else f"{spec.name} with the base {name}", error)
        return None
    if opened.skips:
        run.left_out[spec.name] = len(opened.skips)
        first = opened.skips[0]
        run.say(f"{spec.name}: {len(opened.skips)} row(s) left out, first {first.item}: {first.message}")
    return opened


@dataclass(frozen=True)
class Job(Generic[Result]):
    """A result and how to get it.

    Attributes:
        result (`Keyed`): what is computed.
        compute (`Callable[[], dict[str, Any]]`): gives the content of its file, with `seconds`.
        brief (`Callable[[dict[str, Any]], str]`): of that content, for a line of progress.
    """

    result: Result
    compute: Callable[[], dict[str, Any]]
    brief: Callable[[dict[str, Any]], str]


def compute_jobs(jobs: Iterable[Job[Result]], store: ResultStore, run: Run) -> list[Result]:
    """Compute what the store lacks; what other processes are at is put off and waited for at the end.

    Args:
        jobs (`Iterable[Job]`): in the order in which they are tried.
        store (`ResultStore`): receives the results.
        run (`Run`): notes failures and how many were computed.

    Returns:
        `list[Keyed]`: results of all jobs, also of those that failed.
    """
    planned: list[Result] = []
    waiting: list[Job[Result]] = []
    with quick_collection():
        for job in jobs:
            planned.append(job.result)
            if not _try(job, store, run):
                run.say(f"{job.result.label}: another process is at it")
                waiting.append(job)
        while waiting:
            before = len(waiting)
            waiting = [job for job in waiting if not _try(job, store, run)]
            if len(waiting) == before:
                time.sleep(_WAIT)
    return planned


def _try(job: Job[Any], store: ResultStore, run: Run) -> bool:
    """Compute a result unless it is done; `False` where another process is at it."""
    result = job.result
    if store.has(result):
        return True
    lock = store.lock(result.key[:32])
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    try:
        if not store.has(result):
            values = job.compute()
            store.write(result, values)
            run.num_computed += 1
            run.say(f"{result.label}: {job.brief(values)}, {values['seconds']:.1f} s")
    except Exception as error:  # one result that fails must not cost the others
        run.fail(result.label, error)
    finally:
        lock.release()
    return True
