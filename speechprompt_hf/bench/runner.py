"""Running a suite: every cell once, whoever computes it, and the results when all are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from .bases import DEFAULT, no_base, open_bases, suite_bases
from .cells import Cell, compute_cell, make_cells
from .jobs import Job, Run, compute_jobs, open_shared, present
from .loading import OpenedDataset
from .methods import Method
from .processes import leave_group, use_one_device
from .store import ResultStore
from .suite import Suite

__all__ = ["SuiteRun", "run_suite"]


@dataclass
class SuiteRun(Run):
    """What a run found.

    Attributes:
        suite (`Suite`): with the seeds that ran.
        only (`tuple[str, ...]`): the part that ran.
        cells (`list[dict[str, Any]]`): contents of the cells, in the order of the suite.
        planned (`list[tuple[str, str, int | None]]`): data set, method and shots of all cells, also of those that
            failed, in the order of the suite.
        skipped, failed, left_out, num_computed, is_first_process: see `Run`.
    """

    suite: Suite
    only: tuple[str, ...] = ()
    cells: list[dict[str, Any]] = field(default_factory=list)
    planned: list[tuple[str, str, int | None]] = field(default_factory=list)


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
        only (`Sequence[str]`): see `Suite.methods_of`.
        num_seeds (`int`, *optional*): see `Suite.selected`.
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
    suite = suite.selected(only, num_seeds)
    known = (*(spec.base for spec in suite.datasets), *(method.base or DEFAULT for method in suite.methods))
    sources = suite_bases(suite.name, known, bases)
    use_one_device(device, place.local_rank)
    run = SuiteRun(suite, tuple(only), is_first_process=place.rank == 0)
    run.say = on_note or run.say
    store = ResultStore(work)
    planned = compute_jobs(_jobs(run, sources, data_root, store, device), store, run)
    order = {spec.name: number for number, spec in enumerate(suite.datasets)}
    rank_of = {method.name: number for number, method in enumerate(suite.methods)}
    # Folds stay as planned, whoever finished them first.
    planned.sort(key=lambda cell: (order[cell.dataset], rank_of[cell.method.name], cell.shots or 0, cell.seed))
    run.planned = list(dict.fromkeys((cell.dataset, cell.method.name, cell.shots) for cell in planned))
    run.cells = [store.read(cell) for cell in planned if store.has(cell)]
    return run


def _jobs(
    run: SuiteRun, sources: Mapping[str, str], data_root: Path | None, store: ResultStore, device: str | None
) -> Iterator[Job[Cell]]:
    """Every cell of the suite, data set by data set and seed by seed; `run` gets what cannot run."""
    suite = run.suite
    there = present(suite, run.only, data_root, run)
    bases = open_bases((method.base or spec.base for spec, methods in there for method in methods), sources)
    for spec, methods in there:
        jobs: list[Job[Cell]] = []
        opened: dict[str, OpenedDataset | None] = {}
        for method in methods:
            name = method.base or spec.base
            base = bases.get(name)
            if base is None and _needs_base(method):
                run.skip(spec.name, method.name, no_base(name))
                continue
            if name not in opened:
                best = suite.selection == "best"
                opened[name] = open_shared(spec, data_root, base, store, run, base_name=name, choose_epoch=best)
            data = opened[name]
            if data is None:
                continue
            if method.kind == "encoder-mean" and data.recordings is None:
                run.skip(spec.name, method.name, "the data set holds units, not recordings")
                continue
            for cell in make_cells(suite, data, method, base):
                scratch = store.scratch(cell)
                compute = partial(compute_cell, cell, suite, data, base, scratch=scratch, device=device)
                jobs.append(Job(cell, compute, _brief))
        yield from sorted(jobs, key=lambda job: (suite.seeds.index(job.result.seed), job.result.shots or 0))


def _needs_base(method: Method) -> bool:
    """Units themselves need none."""
    return method.reads_language_model or method.kind == "encoder-mean" or method.base is not None


def _brief(values: Mapping[str, Any]) -> str:
    return f"accuracy {values['accuracy']:.4f}"
