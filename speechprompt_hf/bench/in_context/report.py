"""What an in-context run leaves in its output folder: tables, a picture a task, one page."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..blocks import (
    Block,
    Command,
    Heading,
    Items,
    Paragraph,
    Picture,
    Table,
    as_html,
    as_markdown,
    gap_text,
    interval_text,
    lists,
    version_texts,
    write_files,
)
from .declaration import InContextTask
from .picture import draw_task
from .runner import InContextRun
from .summary import InContextLine, summarize_in_context

__all__ = ["in_context_summary", "write_in_context_results"]

_LEGEND = (
    "The input is one sequence, </s> x1 <s> y1 x2 <s> y2 … xq <s>. The labels y are tokens drawn anew for every "
    "episode, so that only the examples tell what they mean; the answer is the one of the labels in play that scores "
    "highest.",
    "No row of the test is in an episode of warm-up. Of a data set that warms up and is asked, each seed holds out "
    "other classes and speakers, which warm-up never hears. What is asked is by a speaker who tells none of the "
    "examples. Speakers who are unknown may be on both sides, and may tell and be asked in one episode.",
    "accuracy: over the episodes of all seeds, ± standard deviation over seeds; 95 %: bootstrap interval, whole asked "
    "speakers drawn anew where eight or more are known, else asked recordings.",
    "shuffled: some of the same episodes, their examples' labels dealt out anew: above chance by luck alone. A model "
    "that favours some tokens whatever the examples are has the same luck in both.",
    "labels add: accuracy less shuffled, both on the episodes that were shuffled, with its paired bootstrap interval.",
    "known: other episodes of the rows of warm-up: what was learnt before it had to carry over.",
    "difference: accuracy less the baseline's on the same episodes, with its paired bootstrap interval.",
    "seconds: warm-up alone, on the clock, the median over seeds; longer where other programs run beside.",
)


def in_context_summary(run: InContextRun, command: str) -> dict[str, Any]:
    """The results as one JSON value.

    Args:
        run (`InContextRun`): what ran.
        command (`str`): that repeats it.
    """
    return {
        "suite": run.suite.name,
        "command": command,
        "lines": [asdict(line) for line in summarize_in_context(run.suite, run.parts)],
        "divisions": [
            {"task": part["task"], "seed": part["seed"], **part["rows"]}
            for part in {(part["task"], part["seed"]): part for part in run.parts}.values()
        ],
        "notes": {task: list(notes) for task, notes in run.notes.items()},
        "num_parts": len(run.parts),
        **run.remarks_as_json(),
    }


def write_in_context_results(run: InContextRun, output: Path, command: str) -> list[Path]:
    """Write `lines.csv`, `table.md`, `summary.json`, `report.html` and a picture a task.

    Args:
        run (`InContextRun`): what ran.
        output (`Path`): receives a folder of the suite's name, which receives the files.
        command (`str`): that repeats it.

    Returns:
        `list[Path]`: the files.
    """
    lines = summarize_in_context(run.suite, run.parts)
    pictures = {}
    for task in run.suite.tasks:
        mine = [line for line in lines if line.task == task.name]
        if mine:
            pictures[task.name] = draw_task(task.title or task.name, mine)
    blocks = _blocks(run, lines, pictures, command)
    texts = {
        "lines.csv": _csv(lines),
        "table.md": as_markdown(blocks),
        "report.html": as_html(run.suite.heading, blocks),
    }
    return write_files(output / run.suite.name, texts, in_context_summary(run, command), pictures)


def _blocks(
    run: InContextRun,
    lines: Sequence[InContextLine],
    pictures: Mapping[str, bytes],
    command: str,
) -> list[Block]:
    blocks: list[Block] = [Heading(run.suite.heading, 1), Command(command)]
    for task in run.suite.tasks:
        mine = [line for line in lines if line.task == task.name]
        if not mine:
            continue
        blocks += [Heading(task.name), Paragraph(_sentence(task, run.parts))]
        blocks += [Paragraph(text) for text in _surprise(task, run.parts)]
        if notes := run.notes.get(task.name):
            blocks.append(Items(notes))
        for dataset, ways, shots in dict.fromkeys((line.dataset, line.ways, line.shots) for line in mine):
            chosen = [line for line in mine if (line.dataset, line.ways, line.shots) == (dataset, ways, shots)]
            blocks.append(Heading(f"{dataset}, {ways}-way, {shots}-shot: chance {chosen[0].chance:.2f}", 3))
            blocks.append(Table((_HEADINGS, *(_texts(line) for line in chosen))))
        blocks.append(Picture(task.name, pictures[task.name]))
    return [*blocks, *lists({"How to read this": _LEGEND, **run.remarks(), "Versions": version_texts(run.parts)})]


def _sentence(task: InContextTask, parts: Sequence[Mapping[str, Any]]) -> str:
    """What warms up and what is asked, in the first seed."""
    rows = next(part["rows"] for part in parts if part["task"] == task.name)

    def said(pools: Mapping[str, Mapping[str, Any]]) -> str:
        return "; ".join(
            f"{name}, {len(pool['classes'])} classes, {_speakers(pool)}, {pool['num_rows']} rows"
            for name, pool in pools.items()
        )

    title = f"{task.title}. " if task.title else ""
    return f"{title}Warm-up: {said(rows['warm_up'])}. Test: {said(rows['test'])}."


def _speakers(pool: Mapping[str, Any]) -> str:
    unknown = pool.get("num_without_speaker", 0)
    if unknown == pool["num_rows"]:
        return "speakers unknown"
    return f"{pool['num_speakers']} speakers" + (f" ({unknown} rows with speakers unknown)" if unknown else "")


def _surprise(task: InContextTask, parts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whether the frozen base uses what it has just heard, a mean over seeds."""
    found = {part["seed"]: part["surprise"] for part in parts if part["task"] == task.name and part["surprise"]}
    if not found:
        return []
    first, again = (sum(each[name] for each in found.values()) / len(found) for name in ("first", "again"))
    return [
        f"The frozen base, surprise in nats a unit: {first:.3f} at an utterance of the test, {again:.3f} at the same "
        "utterance right after it. Without a difference it does not copy from its context, with or without labels."
    ]


_HEADINGS = (
    "method",
    "accuracy",
    "95 %",
    "over",
    "difference",
    "shuffled",
    "labels add",
    "known",
    "trained",
    "seconds",
    "episodes",
)


def _texts(line: InContextLine) -> tuple[str, ...]:
    deviation = "" if line.deviation is None else f" ± {line.deviation:.3f}"
    return (
        line.method,
        f"{line.accuracy:.3f}{deviation}",
        interval_text(line.interval),
        line.over,
        gap_text(line.difference, line.difference_interval, 3),
        f"{line.shuffled:.3f} ({interval_text(line.shuffled_interval)})",
        gap_text(line.gain, line.gain_interval, 3),
        f"{line.known:.3f}",
        f"{line.trained_parameters:,}",
        f"{line.seconds:.1f}",
        f"{line.num_episodes:,} in {line.num_seeds} seed(s)",
    )


def _csv(lines: Sequence[InContextLine]) -> str:
    """A line each; intervals as two columns."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    for number, line in enumerate(lines):
        flat: dict[str, Any] = {}
        for name, value in asdict(line).items():
            if name.endswith("interval"):
                flat[f"{name}_low"], flat[f"{name}_high"] = value or ("", "")
            else:
                flat[name] = value
        if not number:
            writer.writerow(flat)
        writer.writerow(flat.values())
    return stream.getvalue()
