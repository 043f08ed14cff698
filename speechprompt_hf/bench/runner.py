"""Running a suite: every cell once, whoever computes it, and the results when all are there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import Timeout

from ..core.errors import ConfigurationError, DatasetError, SpeechPromptError
from .bases import DEFAULT, Base, named_bases, open_base
from .cells import Cell, CellStore, compute_cell, make_cells
from .datasets import DatasetSpec
from .loading import OpenedDataset, open_dataset
from .measure import quick_collection
from .methods import Method
from .processes import leave_group, use_one_device
from .suite import Suite, methods_of, selected

__all__ = ["Failure", "Skipped", "SuiteRun", "run_suite"]

_WAIT = 0.5
"""Seconds between two looks at cells that other processes compute."""


@dataclass(frozen=True)
class Skipped:
    """What was not run.

    Attributes:
        dataset (`str`): name of the data set.
        method (`str | None`): name of the method; `None` for all of them.
        reason (`str`): what is missing.
    """

    dataset: str
    method: str | None
    reason: str


@dataclass(frozen=True)
class Failure:
    """A cell or a data set that ended with an error; it is tried again by the next run.

    Attributes:
        cell (`str`): label of the cell, or name of the data set.
        error (`str`): name of the error class and its message.
    """

    cell: str
    error: str


@dataclass
class SuiteRun:
    """What a run found.

    Attributes:
        suite (`Suite`): with the seeds that ran.
        only (`tuple[str, ...]`): the part that ran.
        cells (`list[dict[str, Any]]`): contents of the cells, in the order of the suite.
        planned (`list[tuple[str, str, int | None]]`): data set, method and shots of all cells, also of those that
            failed, in the order of the suite.
        skipped (`list[Skipped]`): data sets and methods that could not run here.
        failed (`list[Failure]`): cells that ended with an error, and data sets that could not be opened.
        left_out (`dict[str, int]`): data set → recordings that could not be used.
        num_computed (`int`): cells that this process computed.
        is_first_process (`bool`): whether this process writes the results.
    """

    suite: Suite
    only: tuple[str, ...] = ()
    cells: list[dict[str, Any]] = field(default_factory=list)
    planned: list[tuple[str, str, int | None]] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    num_computed: int = 0
    is_first_process: bool = True


def run_suite(
    suite: Suite,
    *,
    work: Path,
    data_root: Path | None = None,
    bases: Sequence[str] = (),
    only: Sequence[str] = (),
    num_seeds: int | None = None,
    device: str | None = None,
    on_note: Callable[[str], None] | None = None,
) -> SuiteRun:
    """Compute the cells of a suite that the work folder lacks.

    Several processes may work on one folder, from one launcher or from several terminals: a cell is computed once,
    and what a killed process left is computed again.

    Args:
        suite (`Suite`): what to run.
        work (`Path`): cells, locks and the cache of units.
        data_root (`Path`, *optional*): the folder that holds data sets.
        bases (`Sequence[str]`): `NAME=SOURCE`, or a source alone for the default one.
        only (`Sequence[str]`): see `suite.methods_of`.
        num_seeds (`int`, *optional*): see `suite.selected`.
        device (`str`, *optional*): where to train; a GPU where there is one.
        on_note (`Callable[[str], None]`, *optional*): receives lines of progress.

    Returns:
        `SuiteRun`.

    Raises:
        ConfigurationError: an unknown base, device or part of the suite.
        AdapterError: there is no such base.
        FingerprintMismatchError: a base whose processor makes other units than its language model was trained on.
        DatasetError: not one data set is there.
    """
    place = leave_group()
    suite = selected(suite, only, num_seeds)
    sources = _sources(suite, bases)
    use_one_device(device, place.local_rank)
    run = SuiteRun(suite, tuple(only), is_first_process=place.rank == 0)
    say = on_note or (lambda text: None)
    store = CellStore(work)
    planned: list[Cell] = []
    finished: list[Cell] = []
    waiting: list[_Job] = []
    with quick_collection():
        for job in _jobs(suite, only, sources, data_root, store, run, say):
            planned.append(job.cell)
            _try(job, store, run, finished, waiting, say, device)
        while waiting:
            held, waiting = waiting, []
            before = len(finished) + len(run.failed)
            for job in held:
                _try(job, store, run, finished, waiting, say, device, quietly=True)
            if len(finished) + len(run.failed) == before:
                time.sleep(_WAIT)
    order = {spec.name: number for number, spec in enumerate(suite.datasets)}
    rank_of = {method.name: number for number, method in enumerate(suite.methods)}
    # Folds stay as planned, whoever finished them first.
    planned.sort(key=lambda cell: (order[cell.dataset], rank_of[cell.method.name], cell.shots or 0, cell.seed))
    run.planned = list(dict.fromkeys((cell.dataset, cell.method.name, cell.shots) for cell in planned))
    run.cells = [store.read(cell) for cell in planned if store.has(cell)]
    return run


@dataclass(frozen=True)
class _Job:
    """A cell with what it needs."""

    cell: Cell
    suite: Suite
    opened: OpenedDataset
    base: Base | None


def _sources(suite: Suite, given: Sequence[str]) -> dict[str, str]:
    sources = named_bases(given)
    known = {DEFAULT, *(spec.base for spec in suite.datasets), *(method.base or DEFAULT for method in suite.methods)}
    unknown = sorted(set(sources) - known)
    if unknown:
        raise ConfigurationError(
            f"the suite {suite.name} knows no base {unknown[0]!r}", hint=f"it knows {', '.join(sorted(known))}"
        )
    return sources


def _jobs(
    suite: Suite,
    only: Sequence[str],
    sources: Mapping[str, str],
    data_root: Path | None,
    store: CellStore,
    run: SuiteRun,
    say: Callable[[str], None],
) -> Iterator[_Job]:
    """Every cell of the suite, data set by data set and seed by seed; `run` gets what cannot run."""

    def skip(dataset: str, method: str | None, reason: str) -> None:
        run.skipped.append(Skipped(dataset, method, reason))
        say(f"{dataset}{'/' + method if method else ''} is skipped: {reason}")

    there = []
    for spec in suite.datasets:
        methods = methods_of(suite, spec, only)
        if methods and not spec.is_there(data_root):
            skip(spec.name, None, _missing(spec, data_root))
        elif methods:
            there.append((spec, methods))
    if not there:
        raise DatasetError(
            f"not one data set of the suite {suite.name} is there: "
            + "; ".join(f"{skip.dataset}: {skip.reason}" for skip in run.skipped),
            hint="data_root (--data-root) names the folder that holds them; the suite smoke needs no data",
        )
    # A base that cannot be used is refused before hours are spent on others.
    needed = dict.fromkeys(method.base or spec.base for spec, methods in there for method in methods)
    bases = {name: open_base(name, sources[name]) for name in needed if name in sources}
    for spec, methods in there:
        jobs: list[_Job] = []
        broken: set[str] = set()
        opened: dict[str, OpenedDataset] = {}
        for method in methods:
            name = method.base or spec.base
            if reason := _lacks(method, name, sources):
                skip(spec.name, method.name, reason)
                continue
            base = bases.get(name)
            if name in broken:
                continue
            if name not in opened:
                try:
                    # One process makes the units, the others find them in the cache.
                    with store.lock(f"units-{spec.name}-{name}"):
                        opened[name] = open_dataset(
                            spec,
                            data_root,
                            base,
                            cache_dir=store.work / "cache",
                            choose_epoch=suite.selection == "best",
                            progress=True,
                        )
                except SpeechPromptError as error:  # one data set that fails must not cost the others
                    broken.add(name)
                    label = spec.name if name == spec.base else f"{spec.name} with the base {name}"
                    _fail(label, error, run, say)
                    continue
                if opened[name].skips:
                    run.left_out[spec.name] = len(opened[name].skips)
                    first = opened[name].skips[0]
                    say(f"{spec.name}: {len(opened[name].skips)} row(s) left out, first {first.item}: {first.message}")
            if method.kind == "encoder-mean" and opened[name].recordings is None:
                skip(spec.name, method.name, "the data set holds units, not recordings")
                continue
            jobs += [_Job(cell, suite, opened[name], base) for cell in make_cells(suite, opened[name], method, base)]
        yield from sorted(jobs, key=lambda job: (suite.seeds.index(job.cell.seed), job.cell.shots or 0))


def _missing(spec: DatasetSpec, data_root: Path | None) -> str:
    return f"there is no {spec.folder} in the data root" if data_root is not None else "no data root was given"


def _lacks(method: Method, base: str, sources: Mapping[str, str]) -> str | None:
    """Why a method cannot run; `None` if it can. Units themselves need no base."""
    needs_base = method.reads_language_model or method.kind == "encoder-mean" or method.base is not None
    if needs_base and base not in sources:
        return f"no base is named {base}: give {base}=FOLDER in bases (--base)"
    return None


def _try(
    job: _Job,
    store: CellStore,
    run: SuiteRun,
    finished: list[Cell],
    waiting: list[_Job],
    say: Callable[[str], None],
    device: str | None,
    quietly: bool = False,
) -> None:
    """Compute a cell unless it is done; one that another process computes is put off."""
    cell = job.cell
    if store.has(cell):
        finished.append(cell)
        return
    lock = store.lock(cell.key[:32])
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not quietly:
            say(f"{cell.label}: another process is at it")
        waiting.append(job)
        return
    try:
        if not store.has(cell):
            values = compute_cell(cell, job.suite, job.opened, job.base, scratch=store.scratch(cell), device=device)
            store.write(cell, values)
            run.num_computed += 1
            say(f"{cell.label}: accuracy {values['accuracy']:.4f}, {values['seconds']:.1f} s")
        finished.append(cell)
    except KeyboardInterrupt:
        raise
    except Exception as error:  # one cell that fails must not cost the others
        _fail(cell.label, error, run, say)
    finally:
        lock.release()


def _fail(label: str, error: Exception, run: SuiteRun, say: Callable[[str], None]) -> None:
    """Record what ended with an error, and go on."""
    message = error.args[0] if isinstance(error, SpeechPromptError) else error
    run.failed.append(Failure(label, " ".join(f"{type(error).__name__}: {message}".split())))
    say(f"{label} failed: {run.failed[-1].error}")
