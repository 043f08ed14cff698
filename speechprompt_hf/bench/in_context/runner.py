"""Running an in-context suite: every part once, whoever computes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ...core.errors import DatasetError
from ..bases import no_base, open_bases, suite_bases
from ..jobs import Job, Run, compute_jobs, open_shared, present
from ..loading import OpenedDataset
from ..processes import leave_group, use_one_device
from ..store import ResultStore
from .material import Material
from .parts import Part, compute_part, make_part
from .suite import InContextSuite

__all__ = ["InContextRun", "run_in_context"]


@dataclass
class InContextRun(Run):
    """What a run found.

    Attributes:
        suite (`InContextSuite`): with the seeds that ran.
        parts (`list[dict[str, Any]]`): contents of the parts, in the order of the suite.
        notes (`dict[str, tuple[str, ...]]`): task → what its two sides have in common.
        skipped, failed, left_out, num_computed, is_first_process: see `Run`.
    """

    suite: InContextSuite
    parts: list[dict[str, Any]] = field(default_factory=list)
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)


def run_in_context(
    suite: InContextSuite,
    *,
    work: Path,
    data_root: Path | None = None,
    bases: Sequence[str] = (),
    only: Sequence[str] = (),
    num_seeds: int | None = None,
    device: str | None = None,
    on_note: Callable[[str], None] | None = None,
) -> InContextRun:
    """Compute the parts of a suite that the work folder lacks.

    Several processes may work on one folder; a part is computed once, and what a killed process left is computed
    again.

    Args:
        suite (`InContextSuite`): what to run.
        work (`Path`): parts, locks and the cache of units.
        data_root (`Path`, *optional*): the folder that holds data sets.
        bases (`Sequence[str]`): `NAME=SOURCE`, or a source alone for the default one.
        only (`Sequence[str]`): `TASK`, `TASK/METHOD` or patterns.
        num_seeds (`int`, *optional*): the first so many seeds.
        device (`str`, *optional*): where to train; a GPU where there is one.
        on_note (`Callable[[str], None]`, *optional*): receives lines of progress.

    Returns:
        `InContextRun`.

    Raises:
        ConfigurationError: an unknown base, device or part of the suite.
        AdapterError: there is no such base.
        FingerprintMismatchError: a base whose processor makes other units than its language model was trained on.
        DatasetError: not one task has all its data sets.
    """
    place = leave_group()
    suite = suite.selected(only, num_seeds)
    sources = suite_bases(suite.name, (spec.base for spec in suite.datasets), bases)
    use_one_device(device, place.local_rank)
    run = InContextRun(suite, is_first_process=place.rank == 0)
    run.say = on_note or run.say
    store = ResultStore(work)
    planned = compute_jobs(_jobs(run, only, sources, data_root, store, device), store, run)
    rank_of = {method.name: number for number, method in enumerate(suite.methods)}
    tasks = [task.name for task in suite.tasks]
    planned.sort(key=lambda part: (tasks.index(part.task), rank_of[part.method.name], part.seed))
    run.parts = [store.read(part) for part in planned if store.has(part)]
    return run


def _jobs(
    run: InContextRun,
    only: Sequence[str],
    sources: Mapping[str, str],
    data_root: Path | None,
    store: ResultStore,
    device: str | None,
) -> Iterator[Job[Part]]:
    """Every part of the suite, task by task and seed by seed; `run` gets what cannot run."""
    suite = run.suite
    there = present(suite, only, data_root, run)
    bases = open_bases((suite.specs_of(task)[0].base for task, _ in there), sources)
    opened: dict[str, OpenedDataset | None] = {}
    for task, methods in there:
        specs = suite.specs_of(task)
        base = bases.get(specs[0].base)
        for spec in specs:
            if spec.name not in opened:
                opened[spec.name] = open_shared(spec, data_root, base, store, run)
        found = {spec.name: data for spec in specs if (data := opened[spec.name]) is not None}
        if len(found) < len(specs):
            continue
        try:
            material = Material.of(task, found, suite.max_units)
        except DatasetError as error:  # one task that fails must not cost the others
            run.fail(task.name, error)
            continue
        run.notes[task.name] = material.notes
        able = [method for method in methods if base is not None or not method.reads_language_model]
        for method in methods:
            if method not in able:
                run.skip(task.name, method.name, no_base(specs[0].base))
        for seed in suite.seeds:
            for method in able:
                part = make_part(suite, material, method, seed, base)
                yield Job(part, partial(compute_part, part, suite, material, base, device=device), _brief)


def _brief(values: dict[str, Any]) -> str:
    """Accuracies of a part, for a line of progress."""
    return ", ".join(
        f"{each['dataset']} {each['ways']}-way {each['shots']}-shot {sum(each['correct']) / len(each['correct']):.3f}"
        for each in values["measured"]
        if each["side"] == "test"
    )
