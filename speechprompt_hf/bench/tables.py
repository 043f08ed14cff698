"""Cells as CSV, lines as rows of a table, and the sentences beside them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from .blocks import gap_text, interval_text
from .generalisation import Choice
from .incomplete import Incomplete
from .summary import Line

__all__ = [
    "cells_csv",
    "choice_rows",
    "choice_sentences",
    "column_names",
    "dataset_sentence",
    "legend",
    "line_texts",
    "table_rows",
]

_CSV_COLUMNS = (
    "dataset",
    "method",
    "fold",
    "seed",
    "shots",
    "accuracy",
    "macro_f1",
    "equal_error_rate",
    "validation_accuracy",
    "trained_parameters",
    "seconds",
    "cpu_seconds",
    "num_epochs",
    "memory_before",
    "peak_memory",
    "cuda_peak_memory",
)


def cells_csv(cells: Sequence[Mapping[str, Any]]) -> str:
    """Every cell as a line, without its predictions.

    Args:
        cells (`Sequence[Mapping]`): contents of cells.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*_CSV_COLUMNS, "train_rows", "test_rows", "base", "key"])
    for cell in cells:
        base = cell["base"] or {"weights": {"weights": ""}}
        writer.writerow(
            [
                *(cell[name] for name in _CSV_COLUMNS),
                cell["num_rows"]["train"],
                cell["num_rows"]["test"],
                base["weights"]["weights"][:12],
                cell["key"][:12],
            ]
        )
    return stream.getvalue()


def column_names(lines: Sequence[Line]) -> list[str]:
    """Headings of the table; what no line has is left out."""
    return [name for name in _COLUMNS if any(_COLUMNS[name](line) for line in lines)]


def line_texts(line: Line, columns: Sequence[str]) -> list[str]:
    """A line's texts under these headings."""
    return [_COLUMNS[name](line) for name in columns]


def table_rows(lines: Sequence[Line], lacking: Sequence[Incomplete] = ()) -> list[list[str]]:
    """Headings and texts of all lines; methods that lack a fold come last, without numbers."""
    columns = column_names(lines)
    if lacking and not lines:
        columns = ["method", *(["shots"] if any(each.shots is not None for each in lacking) else []), "accuracy"]
    return [columns, *(line_texts(line, columns) for line in lines), *(_incomplete(each, columns) for each in lacking)]


def _incomplete(each: Incomplete, columns: Sequence[str]) -> list[str]:
    texts = {
        "method": each.method,
        "shots": "" if each.shots is None else str(each.shots),
        "accuracy": f"incomplete: {each.num_done} of {each.num_folds} folds",
    }
    return [texts.get(name, "") for name in columns]


def choice_sentences(choice: Choice) -> list[str]:
    """What was chosen, among what, and by which data sets."""
    among = ", ".join(f"{name} {value:.4f}" for name, value in choice.validation.items())
    sentences = [
        f"Chosen: {choice.chosen}, by validation accuracy, mean over {', '.join(choice.chosen_on)}: {among}.",
    ]
    if choice.lacking:
        sentences.append(f"These had no say, since they have not run in whole: {', '.join(choice.lacking)}.")
    if choice.not_compared:
        sentences.append(f"These candidates have not run on all of them: {', '.join(choice.not_compared)}.")
    if choice.held_out:
        sentences.append(
            "On the test rows of the other data sets, beside the baseline and beside the candidate with the highest "
            "validation accuracy there:"
        )
    return sentences


def choice_rows(choice: Choice) -> list[list[str]]:
    """Headings and a row a held-out data set; none without held-out ones."""
    if not choice.held_out:
        return []
    heading = ["data set", choice.chosen, "95 %", "baseline", "difference", "own best", "its accuracy", "difference"]
    rows = [
        [
            each.dataset,
            f"{each.accuracy:.4f}",
            interval_text(each.interval),
            each.baseline or "",
            gap_text(each.difference, each.difference_interval),
            each.own_best,
            f"{each.own_accuracy:.4f}",
            "" if each.own_best == choice.chosen else gap_text(each.own_difference, each.own_interval),
        ]
        for each in choice.held_out
    ]
    return [heading, *rows]


def dataset_sentence(title: str, note: str, lines: Sequence[Line]) -> str:
    """What the data set is, and how it was measured; without lines it was not."""
    parts = [text for text in (title, note) if text]
    for line in lines[:1]:
        folds = "one fold" if line.num_folds == 1 else f"{line.num_folds} folds"
        parts.append(f"{line.num_rows:,} test rows in {folds}, intervals over {line.over}")
    return "; ".join(parts or ["no method has all folds"]) + "."


def legend(lines: Sequence[Line], lacking: Sequence[Incomplete] = ()) -> list[str]:
    """What the columns mean."""
    sentences = [
        "accuracy: over the test rows of all folds, mean ± standard deviation over seeds; 95 %: bootstrap interval of "
        "the mean over seeds, whole speakers drawn anew where there are eight or more, else rows.",
        "trained: parameters that training changed, the most of all folds. seconds, CPU s and memory are those of one "
        "fold and seed, the median over them.",
        "seconds: time on the clock, longer where other programs run beside; of trained methods the training alone, "
        "of the others fitting and predicting, with the encoder (encoder-mean) or language model (hidden-states).",
        "CPU s: time of the processor, summed over its cores, that the process itself took from reading the base to "
        "the last prediction of test and validation rows; waiting, the GPU and making units do not count.",
        "memory: what a run added to the process's memory at its peak (on a GPU: its tensors there). What is loaded "
        "at first use counts in the run that uses it first, hence the median.",
    ]
    if lacking:
        sentences.append(
            "incomplete: some folds failed or have not run, and a mean over the others would be of other rows; Failed "
            "tells why."
        )
    if any(line.num_seeds < line.num_planned_seeds for line in lines):
        sentences.append("seeds: those that have all folds; the others of the suite do not count.")
    if any(line.difference is not None for line in lines):
        sentences.append(
            "difference: accuracy less the baseline's on the same rows, with its paired bootstrap interval."
        )
    if any(line.equal_error_rate is not None for line in lines):
        sentences.append("EER: equal error rate, mean over folds and seeds; methods that give no scores have none.")
    if any(line.validation_accuracy is not None for line in lines):
        sentences.append("validation: accuracy on the validation rows, mean over folds and seeds.")
    return sentences


def _accuracy(line: Line) -> str:
    return f"{line.accuracy:.4f}" + (f" ± {line.deviation:.4f}" if line.deviation is not None else "")


def _size(value: float | None) -> str:
    return "" if value is None else f"{value / 2**20:,.0f} MB"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


_COLUMNS = {
    "method": lambda line: line.method,
    "shots": lambda line: "" if line.shots is None else str(line.shots),
    "accuracy": _accuracy,
    "95 %": lambda line: interval_text(line.interval),
    "difference": lambda line: gap_text(line.difference, line.difference_interval),
    "macro-F1": lambda line: f"{line.macro_f1:.4f}",
    "EER": lambda line: _share(line.equal_error_rate),
    "validation": lambda line: _share(line.validation_accuracy),
    "trained": lambda line: f"{line.trained_parameters:,}",
    "seconds": lambda line: f"{line.seconds:.1f}",
    "CPU s": lambda line: f"{line.cpu_seconds:.1f}",
    "memory": lambda line: _size(line.memory),
    "seeds": lambda line: (
        f"{line.num_seeds} of {line.num_planned_seeds}"
        if line.num_seeds < line.num_planned_seeds
        else str(line.num_seeds)
    ),
}
