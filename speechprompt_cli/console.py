"""Printing: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO

__all__ = ["is_main_process", "note", "print_error", "print_json", "print_line", "progress_bar", "working"]

_results: list[TextIO] = []


def is_main_process() -> bool:
    """Whether this is the only process, or the first one of a launcher: the one that prints and writes."""
    return os.environ.get("RANK", "0") == "0"


def print_line(text: str = "") -> None:
    """One line of the result."""
    print(text, file=_results[-1] if _results else sys.stdout, flush=True)


def print_json(value: Any) -> None:
    """The result as one JSON document."""
    print_line(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def note(text: str) -> None:
    """A remark to the reader on standard error."""
    print(text, file=sys.stderr, flush=True)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """One line, from one process, without the line of code that it came from."""
    if is_main_process():
        note(f"warning: {' '.join(str(message).split())}")


def print_error(message: str, *, hint: str | None = None) -> None:
    """One line on standard error: what was wrong, and what to do."""
    line = " ".join(message.split())
    if hint:
        line = f"{line} -> {' '.join(hint.split())}"
    note(f"error: {line}")


@contextmanager
def working() -> Iterator[None]:
    """Run library code: what it prints goes to standard error, without the chatter of the libraries below."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    _results.append(sys.stdout)
    try:
        with redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.showwarning = _show_warning
            from transformers.utils.logging import disable_progress_bar

            # Bars that fill in a tenth of a second hide the one that matters.
            disable_progress_bar()
            yield
    finally:
        _results.pop()


@contextmanager
def progress_bar(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A rich bar on standard error.

    Args:
        description (`str`): what is being done.
        total (`int`, *optional*): number of steps; `None` shows a bar without an end.

    Yields:
        a function that is called with the number of steps done since its last call.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=total)

        def advance(steps: int = 1) -> None:
            progress.update(task, advance=steps)

        yield advance
