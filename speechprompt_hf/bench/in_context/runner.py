"""Running an in-context suite: every part once, whoever computes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import Timeout

from ...core.errors import ConfigurationError, DatasetError, SpeechPromptError
from ..bases import DEFAULT, Base, named_bases, open_base
from ..loading import OpenedDataset, open_dataset
from ..processes import leave_group, use_one_device
from ..runner import Failure, Skipped
from .declaration import InContextMethod, InContextTask
from .material import Material
from .parts import Part, PartStore, compute_part, make_part
from .suite import InContextSuite

__all__ = ["InContextRun", "run_in_context"]


@dataclass
class InContextRun:
    """What a run found.

    Attributes:
        suite (`InContextSuite`): with the seeds that ran.
        parts (`list[dict[str, Any]]`): contents of the parts, in the order of the suite.
        skipped (`list[Skipped]`): tasks and methods that could not run here.
        failed (`list[Failure]`): parts that ended with an error, and data sets that could not be opened.
        left_out (`dict[str, int]`): data set → recordings that could not be used.
        num_computed (`int`): parts that this process computed.
        is_first_process (`bool`): whether this process writes the results.
    """

    suite: InContextSuite
    parts: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    num_computed: int = 0
    is_first_process: bool = True


@dataclass(frozen=True)
class _Job:
    """A part with what it needs."""

    part: Part
    material: Material
    base: Base | None


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
    sources = named_bases(bases)
    known = {DEFAULT, *(spec.base for spec in suite.datasets)}
    unknown = sorted(set(sources) - known)
    if unknown:
        raise ConfigurationError(
            f"the suite {suite.name} knows no base {unknown[0]!r}", hint=f"it knows {', '.join(sorted(known))}"
        )
    use_one_device(device, place.local_rank)
    run = InContextRun(suite, is_first_process=place.rank == 0)
    say = on_note or (lambda text: None)
    store = PartStore(work)
    planned: list[Part] = []
    held: list[_Job] = []
    for job in _jobs(suite, only, sources, data_root, store, run, say):
        planned.append(job.part)
        if not _try(job, store, run, say, device, wait=False):
            held.append(job)
    for job in held:
        _try(job, store, run, say, device, wait=True)
    rank_of = {method.name: number for number, method in enumerate(suite.methods)}
    tasks = [task.name for task in suite.tasks]
    planned.sort(key=lambda part: (tasks.index(part.task), rank_of[part.method.name], part.seed))
    run.parts = [store.read(part) for part in planned if store.has(part)]
    return run


def _jobs(
    suite: InContextSuite,
    only: Sequence[str],
    sources: dict[str, str],
    data_root: Path | None,
    store: PartStore,
    run: InContextRun,
    say: Callable[[str], None],
) -> Iterator[_Job]:
    """Every part of the suite, task by task and seed by seed; `run` gets what cannot run."""

    def skip(task: str, method: str | None, reason: str) -> None:
        run.skipped.append(Skipped(task, method, reason))
        say(f"{task}{'/' + method if method else ''} is skipped: {reason}")

    there: list[tuple[InContextTask, tuple[InContextMethod, ...]]] = []
    for task in suite.tasks:
        methods = suite.methods_of(task, only)
        missing = [spec for spec in suite.specs_of(task) if not spec.is_there(data_root)]
        if methods and missing:
            where = "in the data root, or none was given"
            skip(task.name, None, f"there is no {', '.join(str(spec.folder) for spec in missing)} {where}")
        elif methods:
            there.append((task, methods))
    if not there:
        raise DatasetError(
            f"not one task of the suite {suite.name} has all its data sets: "
            + "; ".join(f"{each.dataset}: {each.reason}" for each in run.skipped),
            hint="data_root (--data-root) names the folder that holds them",
        )
    # A base that cannot be used is refused before hours are spent on others.
    names = dict.fromkeys(suite.specs_of(task)[0].base for task, _ in there)
    bases = {name: open_base(name, sources[name]) for name in names if name in sources}
    opened: dict[str, OpenedDataset | None] = {}
    for task, methods in there:
        specs = suite.specs_of(task)
        base = bases.get(specs[0].base)
        for spec in specs:
            if spec.name not in opened:
                opened[spec.name] = _open(spec, data_root, base, store, run, say)
        material = {spec.name: opened[spec.name] for spec in specs}
        if None in material.values():
            continue
        rows = Material.of(task, material, suite.max_units)  # type: ignore[arg-type]
        for seed in suite.seeds:
            for method in methods:
                if method.reads_language_model and base is None:
                    if seed == suite.seeds[0]:
                        name = specs[0].base
                        skip(task.name, method.name, f"no base is named {name}: give {name}=FOLDER in bases (--base)")
                    continue
                yield _Job(make_part(suite, rows, method, seed, base), rows, base)


def _open(
    spec: Any,
    data_root: Path | None,
    base: Base | None,
    store: PartStore,
    run: InContextRun,
    say: Callable[[str], None],
) -> OpenedDataset | None:
    """A data set with units; `None` where it ends with an error, which must not cost the others."""
    try:
        # One process makes the units, the others find them in the cache.
        with store.lock(f"units-{spec.name}-{spec.base}"):
            opened = open_dataset(spec, data_root, base, cache_dir=store.work / "cache", progress=True)
    except SpeechPromptError as error:
        _fail(spec.name, error, run, say)
        return None
    if opened.skips:
        run.left_out[spec.name] = len(opened.skips)
        first = opened.skips[0]
        say(f"{spec.name}: {len(opened.skips)} row(s) left out, first {first.item}: {first.message}")
    return opened


def _try(
    job: _Job,
    store: PartStore,
    run: InContextRun,
    say: Callable[[str], None],
    device: str | None,
    *,
    wait: bool,
) -> bool:
    """Compute a part unless it is done; `False` where another process is at it and this one shall not wait."""
    part = job.part
    if store.has(part):
        return True
    lock = store.lock(part.key[:32])
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        say(f"{part.label}: another process is at it")
        return False
    try:
        if not store.has(part):
            values = compute_part(part, run.suite, job.material, job.base, device=device)
            store.write(part, values)
            run.num_computed += 1
            say(f"{part.label}: {_brief(values)}, {values['seconds']:.1f} s")
    except KeyboardInterrupt:
        raise
    except Exception as error:  # one part that fails must not cost the others
        _fail(part.label, error, run, say)
    finally:
        lock.release()
    return True


def _brief(values: dict[str, Any]) -> str:
    """Accuracies of a part, for a line of progress."""
    return ", ".join(
        f"{each['dataset']} {each['ways']}-way {each['shots']}-shot {sum(each['correct']) / len(each['correct']):.3f}"
        for each in values["measured"]
        if each["side"] == "test"
    )


def _fail(label: str, error: Exception, run: InContextRun, say: Callable[[str], None]) -> None:
    """Record what ended with an error, and go on."""
    message = error.args[0] if isinstance(error, SpeechPromptError) else error
    run.failed.append(Failure(label, " ".join(f"{type(error).__name__}: {message}".split())))
    say(f"{label} failed: {run.failed[-1].error}")
