"""Keyword spotting and intent classification on the papers' own units: prompts, verbalizers, and TF-IDF beside them.

The genuine HuBERT-100 units of Speech Commands v0.01 (12 classes) and Fluent Speech Commands (31 intents). The unit
language model is pretrained here, on units of the training parts and of LJSpeech and VCTK, never on validation or
test. Every cell is kept in the work folder, and a stopped run goes on behind its last whole epoch. Settings are the
package's defaults but for larger batches and fewer epochs; the epoch is chosen on validation, the test part is read
once a seed. A GPU is used where there is one; several processes may share a work folder (`--task`, `--only`,
`--seed`): they wait for each other's language model and cells. The table holds every cell of the work folder that was
made with the same settings, whatever part of them this call ran.

    python benchmarks/keyword_and_intent.py --data-root DATA --work WORK
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from paper_units import LANGUAGE_MODEL, TASKS, language_model, locked, read_task

import speechprompt_hf  # noqa: F401 - registers the models
from speechprompt_hf.core.digest import sha256_of_json
from speechprompt_hf.core.files import read_json, write_json, write_text
from speechprompt_hf.data.loading import Splits
from speechprompt_hf.evaluation.baselines import tfidf_baseline
from speechprompt_hf.evaluation.intervals import accuracy_interval
from speechprompt_hf.evaluation.prediction import class_probabilities
from speechprompt_hf.modeling.base_loading import base_fingerprint, load_base
from speechprompt_hf.modeling.modeling_gslm import GSLMForCausalLM
from speechprompt_hf.tasks import Task
from speechprompt_hf.training import TrainingSettings, train

UNTRAINED = ", untrained language model"
# As many detectors as 80,000 (KS) and 150,000 (IC) trained numbers allow beside a deep prompt of 5 vectors.
DETECTORS = {"KS": 400, "IC": 800}


def cells(key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and settings of each row of the table."""
    for prompt, tokens in (("input", 20), ("deep", 20)):
        for verbalizer in ("random", "frequency", "learnable"):
            for readout in ("separator", "pooled"):
                if verbalizer != "learnable" and readout == "pooled":
                    continue
                options = {
                    "prompt": prompt,
                    "num_virtual_tokens": tokens,
                    "verbalizer": verbalizer,
                    "readout": readout,
                }
                yield f"{prompt} prompt, {verbalizer} verbalizer, {readout}", options
                if prompt == "deep" and verbalizer == "learnable":
                    yield f"{prompt} prompt, {verbalizer} verbalizer, {readout}{UNTRAINED}", options
    # More numbers to train need more updates.
    two_layers = {
        "num_virtual_tokens": 5,
        "verbalizer_hidden_size": DETECTORS[key],
        "label_smoothing": 0.1,
        "num_epochs": 10,
        "batch_size": 64,
    }
    yield "deep prompt of 5, verbalizer of two layers, pooled", two_layers
    yield f"deep prompt of 5, verbalizer of two layers, pooled{UNTRAINED}", two_layers


def untrained(base: str, seed: int) -> GSLMForCausalLM:
    """A language model of the same shape with random weights."""
    torch.manual_seed(seed)
    return GSLMForCausalLM(load_base(base).config)


def run_cell(
    task: Task, splits: Splits, base: Any, settings: TrainingSettings, output: Path, seed: int
) -> dict[str, Any]:
    """Train one cell and read the test part once."""
    result = train(task, splits, base, settings, output_dir=output, seed=seed, progress=False, resume=True)
    predicted = class_probabilities(result.model, splits.test, result.vocabulary).argmax(-1)
    expected = np.array([task.index_of(label) for label in splits.test["label"]])
    interval = accuracy_interval(predicted == expected, splits.test["speaker"])
    return {
        "validation": result.validation_metric,
        "test": float((predicted == expected).mean()),
        "interval": [interval.low, interval.high],
        "trained_parameters": result.trained_parameters,
        "epochs": result.num_epochs,
        "seconds_per_epoch": result.seconds_per_epoch,
        "train_rows": len(splits.train),
    }


def tfidf_cell(task: Task, splits: Splits) -> dict[str, Any]:
    """TF-IDF of 1-3-grams and a linear SVM on the same rows."""
    start = time.perf_counter()
    result = tfidf_baseline(splits.train, splits.test)
    interval = accuracy_interval(
        np.asarray(result.predicted) == np.asarray(splits.test["label"]), splits.test["speaker"]
    )
    return {
        "validation": tfidf_baseline(splits.train, splits.validation).accuracy,
        "test": result.accuracy,
        "interval": [interval.low, interval.high],
        "trained_parameters": result.num_parameters,
        "epochs": 1,
        "seconds_per_epoch": time.perf_counter() - start,
        "train_rows": len(splits.train),
    }


def table(results: list[dict[str, Any]]) -> str:
    """Markdown table: a line a task and method, the mean and deviation over seeds."""
    lines = [
        "| task | rows | method | trained | validation | test | seeds | 95 % of the first | epochs | s/epoch |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in results:
        groups.setdefault((row["task"], row["method"]), []).append(row)
    for (task, method), rows in groups.items():
        low, high = rows[0]["interval"]
        lines.append(
            f"| {task} | {rows[0]['train_rows']} | {method} | {rows[0]['trained_parameters']:,} "
            f"| {over_seeds(rows, 'validation')} | {over_seeds(rows, 'test')} | {len(rows)} | {low:.3f}–{high:.3f} "
            f"| {np.mean([row['epochs'] for row in rows]):.0f} "
            f"| {np.mean([row['seconds_per_epoch'] for row in rows]):.1f} |"
        )
    return "\n".join(lines) + "\n"


def over_seeds(rows: list[dict[str, Any]], name: str) -> str:
    """Mean, and the deviation where there are several seeds."""
    values = [row[name] for row in rows]
    deviation = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{deviation}"


class Plan:
    """The cells of a task: their names, settings and files.

    Args:
        key (`str`): of the task.
        splits (`Splits`): its rows with units.
        settings (`TrainingSettings`): what all cells share.
        fingerprint (`dict`): of the language model.
        folder (`Path`): of the cells.
    """

    def __init__(
        self, key: str, splits: Splits, settings: TrainingSettings, fingerprint: dict[str, Any], folder: Path
    ) -> None:
        self.key, self.splits, self.settings = key, splits, settings
        self.fingerprint, self.folder = fingerprint, folder

    @property
    def methods(self) -> dict[str, dict[str, Any] | None]:
        """Name of each row of the table and its settings, `None` for the baseline."""
        return {"TF-IDF 1-3-grams + linear SVM": None, **dict(cells(self.key))}

    def path(self, name: str, seed: int) -> Path:
        """File of a cell; settings, language model and numbers of rows are in its name."""
        options = self.methods[name]
        used = {} if options is None else asdict(replace(self.settings, **options))
        identity = [used, self.fingerprint, len(self.splits.train), len(self.splits.validation), seed]
        slug = f"{self.key}-{name}-{sha256_of_json(identity)[:12]}".lower().replace(" ", "_").replace(",", "")
        return self.folder / f"{slug}.json"

    def finished(self) -> list[dict[str, Any]]:
        """Every cell in the folder that belongs to this plan, of whatever seed, in the order of the table."""
        order = {name: number for number, name in enumerate(self.methods)}
        found = []
        for path in self.folder.glob("*.json"):
            cell = read_json(path)
            is_known = cell["task"] == self.key and cell["method"] in order
            if is_known and path == self.path(cell["method"], cell["seed"]):
                found.append(cell)
        return sorted(found, key=lambda cell: (order[cell["method"]], cell["seed"]))


def run_plan(plan: Plan, task: Task, base: str, work: Path, seeds: Iterable[int], only: str) -> None:
    """Run the cells whose names hold `only` and that are not there yet."""
    for name, options in plan.methods.items():
        for seed in [0] if options is None else seeds:
            path = plan.path(name, seed)
            if only not in name or path.exists():
                continue
            with locked(work, path.stem):
                if path.exists():
                    continue
                if options is None:
                    cell = tfidf_cell(task, plan.splits)
                else:
                    lm = untrained(base, seed) if name.endswith(UNTRAINED) else base
                    settings = replace(plan.settings, **options)
                    cell = run_cell(task, plan.splits, lm, settings, work / "adapters" / path.stem, seed)
                write_json(path, {"task": plan.key, "method": name, "seed": seed, **cell})
                print(json.dumps(read_json(path)), flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder that holds units/")
    parser.add_argument("--work", type=Path, required=True, help="language model and finished cells are kept here")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--pretraining-steps", type=int, default=LANGUAGE_MODEL.num_steps)
    parser.add_argument("--rows", type=int, default=None, help="training rows of each task; all by default")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seed", type=int, action="append", help="0, 1 and 2 by default")
    parser.add_argument("--task", choices=sorted(TASKS), action="append", help="both by default")
    parser.add_argument("--only", default="", help="a part of the names of the cells to run")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    config = replace(LANGUAGE_MODEL, num_steps=arguments.pretraining_steps)
    base = language_model(arguments.data_root, arguments.work, config)
    fingerprint = base_fingerprint(load_base(base))
    settings = TrainingSettings(num_epochs=arguments.epochs, batch_size=arguments.batch_size, eval_batch_size=512)
    folder = arguments.work / "cells"
    results = []
    for key in TASKS:
        selected = key in (arguments.task or TASKS)
        if not selected and not any(folder.glob(f"{key.lower()}-*.json")):
            continue
        task, splits = read_task(arguments.data_root, key)
        rows = splits.train.shuffle(seed=0)
        splits = replace(splits, train=rows.select(range(min(arguments.rows or len(rows), len(rows)))))
        plan = Plan(key, splits, settings, fingerprint, folder)
        if selected:
            run_plan(plan, task, base, arguments.work, arguments.seed or [0, 1, 2], arguments.only)
        results += plan.finished()
    write_text(arguments.output / "keyword_and_intent.md", table(results))
    write_json(arguments.output / "keyword_and_intent.json", results)
    print(table(results))


if __name__ == "__main__":
    main()
