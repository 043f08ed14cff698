"""`speechprompt bench`: data sets × methods × seeds, computed once, as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from ..console import note, print_json, print_line, working
from ..options import DeviceOption, JsonOption


def run(
    suite: Annotated[
        str | None,
        typer.Argument(
            help="What to run: smoke (no data, seconds), classification, few-shot, verbalizer-ablation, "
            "prompt-ablation, generalisation, genuine-units, in-context, or the path of a .yaml file of your own.",
            show_default=False,
        ),
    ] = None,
    data_root: Annotated[
        Path | None,
        typer.Option(help="The folder that holds the data sets; those that it lacks are skipped.", show_default=False),
    ] = None,
    work: Annotated[
        Path, typer.Option(help="Finished cells and units are kept here; several processes may share it.")
    ] = Path("bench-work"),
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Receives a folder of results for each suite.")
    ] = Path("bench-results"),
    base: Annotated[
        list[str] | None,
        typer.Option(
            help="The frozen backbone, a folder or Hub id, or NAME=FOLDER for one that the suite names, such as "
            "hubert100=FOLDER. May be repeated. The one inside this package by default.",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="How many; the suite's by default.")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="DATASET or DATASET/METHOD to run, in-context: TASK or TASK/METHOD; * stands for any: lt-words, "
            "'*/tfidf'. May be repeated.",
            show_default=False,
        ),
    ] = None,
    show_list: Annotated[bool, typer.Option("--list", help="Show suites and data sets, and run nothing.")] = False,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run experiments: data sets × methods × seeds, and compare.

    Every cell (a method on a fold with a seed) is computed once and kept: a stopped run goes on where it stopped, and
    any number of processes, in several terminals or under accelerate launch, share the work.

    Writes a CSV, table.md, summary.json, report.html and a picture for each data set into a folder of the suite.
    """
    if show_list:
        with working():
            listing = _listing(suite, data_root)
        print_json(listing) if as_json else _print_listing(listing)
        return
    if suite is None:
        raise typer.BadParameter("name a suite, for example smoke; --list shows them", param_hint="SUITE")
    if data_root is not None and not data_root.is_dir():
        raise typer.BadParameter(f"{data_root} is no folder", param_hint="--data-root")
    with working():
        from speechprompt_hf.bench.results import repeating_command
        from speechprompt_hf.bench.suite import read_suite

        declared = read_suite(suite)
        given: dict[str, Any] = {"bases": base or (), "only": only or (), "num_seeds": seeds, "device": device}
        needs_data = any(spec.folder is not None for spec in declared.datasets)
        command = repeating_command(suite, **given, needs_data=needs_data)
        finished = _run(declared, output, command, {"work": work, "data_root": data_root, **given})
    if finished is None:
        return
    if as_json:
        print_json({**finished.summary, "files": [str(path) for path in finished.files]})
    else:
        print_line((output / declared.name / "table.md").read_text(encoding="utf-8"))
        print_line(
            f"{finished.num_computed} of {finished.number} cells were computed now; results in {finished.folder}"
        )
    if failed := finished.summary["failed"]:
        note(f"{len(failed)} cell(s) failed; the same command tries them again")
        raise typer.Exit(1)


class _Finished(NamedTuple):
    """A run whose results are written."""

    summary: dict[str, Any]
    files: list[Path]
    num_computed: int
    number: int

    @property
    def folder(self) -> Path:
        """Of the results."""
        return self.files[0].parent


def _run(declared: Any, output: Path, command: str, options: dict[str, Any]) -> _Finished | None:
    """Run a suite of either kind; `None` in all but the first process of a launch."""
    from speechprompt_hf.bench.in_context.suite import InContextSuite

    if isinstance(declared, InContextSuite):
        from speechprompt_hf.bench.in_context.report import in_context_summary, write_in_context_results
        from speechprompt_hf.bench.in_context.runner import run_in_context

        asked = run_in_context(declared, **options, on_note=note)
        if not asked.is_first_process:
            return None
        files = write_in_context_results(asked, output, command)
        return _Finished(in_context_summary(asked, command), files, asked.num_computed, len(asked.parts))
    from speechprompt_hf.bench.results import summary_of, write_results
    from speechprompt_hf.bench.runner import run_suite

    done = run_suite(declared, **options, on_note=note)
    if not done.is_first_process:
        return None
    files = write_results(done, output, command)
    return _Finished(summary_of(done, command), files, done.num_computed, len(done.cells))


def _listing(suite: str | None, data_root: Path | None) -> dict[str, Any]:
    from speechprompt_hf.bench.suite import read_suite, ready_suites

    suites = [read_suite(name) for name in ([suite] if suite else ready_suites())]
    specs = {spec.name: spec for declared in suites for spec in declared.datasets}
    return {
        "suites": [
            {
                "name": declared.name,
                "title": declared.title,
                "datasets": [spec.name for spec in declared.datasets],
                "methods": [method.name for method in declared.methods],
                "seeds": list(declared.seeds),
                "shots": list(declared.shots),
                "choose_on": list(getattr(declared, "choose_on", ())),
            }
            for declared in suites
        ],
        "datasets": [
            {"name": spec.name, "title": spec.title, "folder": spec.folder, "there": spec.is_there(data_root)}
            for spec in specs.values()
        ],
    }


def _print_listing(listing: dict[str, Any]) -> None:
    print_line("suites:")
    for suite in listing["suites"]:
        print_line(f"  {suite['name']}: {suite['title']}")
        print_line(f"    methods: {', '.join(suite['methods'])}")
        if suite["choose_on"]:
            print_line(f"    chosen on: {', '.join(suite['choose_on'])}")
    print_line("data sets:")
    for dataset in listing["datasets"]:
        state = "there" if dataset["there"] else "missing"
        where = dataset["folder"] or "made up, no data needed"
        print_line(f"  {dataset['name']} ({state}): {dataset['title']} [{where}]")
