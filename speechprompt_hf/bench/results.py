"""What a run leaves in its output folder."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .bases import public_source
from .blocks import write_files
from .generalisation import choose
from .incomplete import incomplete
from .page import markdown, report_page
from .plots import draw
from .runner import SuiteRun
from .summary import Line, summarize
from .tables import cells_csv

__all__ = ["repeating_command", "summary_of", "write_results"]


def repeating_command(
    suite: str,
    *,
    bases: Sequence[str] = (),
    only: Sequence[str] = (),
    num_seeds: int | None = None,
    device: str | None = None,
    needs_data: bool = True,
) -> str:
    """The command line that makes the same results; folders of this machine are placeholders.

    Args:
        suite (`str`): name or path as it was given.
        bases (`Sequence[str]`): values of `--base`.
        only (`Sequence[str]`): values of `--only`.
        num_seeds (`int`, *optional*): value of `--seeds`.
        device (`str`, *optional*): value of `--device`.
        needs_data (`bool`, defaults to `True`): whether a data root is needed.
    """
    words = ["speechprompt", "bench", Path(suite).name]
    if needs_data:
        words += ["--data-root", "DATA"]
    for text in bases:
        name, mark, source = text.rpartition("=")
        words += ["--base", f"{name}{mark}{public_source(source)}"]
    for text in only:
        words += ["--only", text]
    if num_seeds is not None:
        words += ["--seeds", str(num_seeds)]
    if device is not None:
        words += ["--device", device]
    return shlex.join(words)


def summary_of(run: SuiteRun, command: str) -> dict[str, Any]:
    """The results as one JSON value.

    Args:
        run (`SuiteRun`): what ran.
        command (`str`): that repeats it.
    """
    lines = summarize(run.suite, run.cells)
    choice = choose(run.suite, run.cells, lines)
    return {
        "suite": run.suite.name,
        "command": command,
        "lines": [asdict(line) for line in lines],
        "incomplete": [asdict(each) for each in incomplete(run.suite, run.cells, run.planned)],
        "choice": None if choice is None else asdict(choice),
        "num_cells": len(run.cells),
        **run.remarks_as_json(),
    }


def write_results(run: SuiteRun, output: Path, command: str) -> list[Path]:
    """Write `cells.csv`, `table.md`, `summary.json`, `report.html` and a picture a data set.

    Args:
        run (`SuiteRun`): what ran.
        output (`Path`): receives a folder of the suite's name, which receives the files.
        command (`str`): that repeats it.

    Returns:
        `list[Path]`: the files.
    """
    lines: list[Line] = summarize(run.suite, run.cells)
    choice = choose(run.suite, run.cells, lines)
    pictures = {}
    for spec in run.suite.datasets:
        mine = [line for line in lines if line.dataset == spec.name]
        if mine:
            pictures[spec.name] = draw(f"{spec.name}: {spec.title}" if spec.title else spec.name, mine)
    texts = {
        "cells.csv": cells_csv(run.cells),
        "table.md": markdown(run, lines, command, choice),
        "report.html": report_page(run, lines, pictures, command, choice),
    }
    return write_files(output / run.suite.name, texts, summary_of(run, command), pictures)
