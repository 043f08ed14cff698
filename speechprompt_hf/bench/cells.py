"""Cells: the smallest thing that is computed, known by everything that its numbers depend on, kept as a file."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from sklearn.metrics import f1_score

from ..core.digest import sha256_of_json
from ..core.versions import package_versions
from ..evaluation.metrics import equal_error_rate
from ..version import __version__
from .bases import Base
from .loading import OpenedDataset
from .measure import PeakMemory
from .methods import FoldRows, Method, Outcome, run_method
from .protocols import Fold
from .suite import Suite

__all__ = ["CELL_SCHEMA", "Cell", "compute_cell", "make_cells"]

CELL_SCHEMA = 1
"""Of a cell's file; it rises when cells of an earlier version must be computed again."""

_PACKAGES = ("torch", "transformers", "peft", "scikit-learn", "numpy", "datasets")


@dataclass(frozen=True)
class Cell:
    """One run of one method on one fold.

    Attributes:
        dataset (`str`): name of the data set.
        fold (`Fold`): of it.
        method (`Method`): what runs.
        seed (`int`): of training and of rows drawn.
        shots (`int | None`): training rows a class.
        key (`str`): SHA-256 over data, fold, method, settings, seed, base and its order of units; names do not count.
    """

    dataset: str
    fold: Fold
    method: Method
    seed: int
    shots: int | None
    key: str
    noun: ClassVar[str] = "cell"

    @property
    def label(self) -> str:
        """For lines of progress."""
        shots = "" if self.shots is None else f", {self.shots} shots"
        return f"{self.dataset}/{self.method.name}, {self.fold.name}{shots}, seed {self.seed}"

    @property
    def folder(self) -> str:
        """Of its file, below the work folder."""
        return f"cells/{self.dataset}"

    @property
    def names(self) -> dict[str, str]:
        """What its content is called in this run."""
        return {"dataset": self.dataset, "method": self.method.name, "fold": self.fold.name}


def make_cells(suite: Suite, opened: OpenedDataset, method: Method, base: Base | None) -> list[Cell]:
    """The cells of a method on a data set, seed by seed.

    A baseline that draws nothing runs with the first seed alone.

    Args:
        suite (`Suite`): seeds, shots and shared settings.
        opened (`OpenedDataset`): the data set.
        method (`Method`): of the suite.
        base (`Base`, *optional*): that the method reads.
    """
    shared = {**suite.settings, **method.settings} if method.is_trained else {}
    # With the defaults, so that a change of these makes new cells.
    settings = asdict(method.training_settings(shared, 0, 1)) if method.is_trained else {}
    read: Any = None
    if base is not None and method.reads_language_model:
        read = {"weights": base.weights["weights"], "vocabulary": sha256_of_json(list(base.vocabulary.symbols))}
    elif base is not None and method.kind == "encoder-mean":
        read = base.units
    identity = {
        "schema": CELL_SCHEMA,
        "kind": method.kind,
        "settings": settings,
        "min_updates": suite.min_updates if method.is_trained else 0,
        "selection": suite.selection if method.is_trained else None,
        "model": dict(method.model),
        "untrained": method.untrained,
        "metric": opened.task.metric,
        "label_sequences": opened.task.label_sequences,
        "base": read,
    }
    cells = []
    for seed in suite.seeds_of(method):
        for shots in suite.shots or (None,):
            for fold in opened.folds:
                known = {**identity, "rows": opened.fold_digest(fold), "seed": seed, "shots": shots}
                cells.append(Cell(opened.spec.name, fold, method, seed, shots, sha256_of_json(known)))
    return cells


def compute_cell(
    cell: Cell, suite: Suite, opened: OpenedDataset, base: Base | None, *, scratch: Path, device: str | None = None
) -> dict[str, Any]:
    """Run a cell and measure it.

    Args:
        cell (`Cell`): what to run.
        suite (`Suite`): shared settings.
        opened (`OpenedDataset`): its data set.
        base (`Base`, *optional*): that the method reads.
        scratch (`Path`): a folder for this run alone.
        device (`str`, *optional*): where to train.

    Returns:
        `dict`: the content of the cell's file; docs/bench.md describes it.

    Raises:
        SpeechPromptError: whatever the method refuses.
    """
    rows = opened.fold_rows(cell.fold, cell.shots, cell.seed)
    settings = cell.method.training_settings(suite.settings, suite.min_updates, len(rows.train))
    start = time.process_time()
    with PeakMemory() as memory:
        outcome = run_method(
            cell.method,
            rows,
            base,
            settings,
            seed=cell.seed,
            choose_epoch=suite.selection == "best",
            scratch=scratch,
            device=device,
        )
    cpu_seconds = time.process_time() - start
    return {
        "schema": CELL_SCHEMA,
        "dataset": cell.dataset,
        "fold": cell.fold.name,
        "method": cell.method.name,
        "kind": cell.method.kind,
        "seed": cell.seed,
        "shots": cell.shots,
        **_scores(rows, outcome),
        "trained_parameters": outcome.trained_parameters,
        "seconds": outcome.seconds,
        "cpu_seconds": cpu_seconds,
        "num_epochs": outcome.num_epochs,
        "memory_before": memory.before,
        "peak_memory": memory.peak,
        "cuda_peak_memory": memory.cuda_peak,
        "num_rows": {
            "train": len(rows.train),
            "validation": len(rows.validation) if rows.validation is not None else 0,
            "test": len(rows.test),
        },
        "selection": suite.selection if cell.method.is_trained else None,
        "settings": outcome.settings,
        "model": dict(cell.method.model),
        "base": None if base is None else base.description,
        "rows": opened.fold_digest(cell.fold),
        "predictions": _predictions(rows, outcome),
        "versions": _versions(),
    }


@cache
def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), "speechprompt-hf": __version__, **package_versions(_PACKAGES)}


def _scores(rows: FoldRows, outcome: Outcome) -> dict[str, Any]:
    expected = list(rows.test["label"])
    validation = None
    if rows.validation is not None and outcome.validation_predicted is not None:
        validation = _accuracy(list(rows.validation["label"]), outcome.validation_predicted)
    rate = None
    if outcome.scores is not None and len(set(expected)) == 2:
        rate = equal_error_rate(outcome.scores, [rows.task.index_of(label) for label in expected])
    return {
        "accuracy": _accuracy(expected, outcome.predicted),
        "macro_f1": float(f1_score(expected, list(outcome.predicted), average="macro", zero_division=0)),
        "equal_error_rate": rate,
        "validation_accuracy": validation,
    }


def _accuracy(expected: Sequence[str], predicted: Sequence[str]) -> float:
    return float(np.mean([left == right for left, right in zip(expected, predicted, strict=True)]))


def _predictions(rows: FoldRows, outcome: Outcome) -> dict[str, Any]:
    index = {label: number for number, label in enumerate(rows.task.labels)}
    expected = [index[label] for label in rows.test["label"]]
    predicted = [index[label] for label in outcome.predicted]
    return {
        "item": list(rows.test["item"]),
        "speaker": list(rows.test["speaker"]),
        "expected": expected,
        "predicted": predicted,
        "correct": [int(left == right) for left, right in zip(expected, predicted, strict=True)],
        "scores": None if outcome.scores is None else [round(score, 6) for score in outcome.scores],
        "labels": list(rows.task.labels),
    }
