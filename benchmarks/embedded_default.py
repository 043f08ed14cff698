"""From raw audio through the embedded default: prompts beside TF-IDF on the same units, on speakers never heard.

`fsdd`: three folds of two held-out speakers, and the official split (speakers shared). `lt_speech_commands`: five
folds grouped by speaker over all 489 rows, 20 words. Rows of the table:

- TF-IDF of 1-3-grams + linear SVM on the same units;
- deep prompt + learnable verbalizer, the package's default settings;
- the same verbalizer without a prompt;
- the same prompt and verbalizer on an untrained language model of the same shape.

All train on all rows of the other speakers, for the number of epochs of the settings, without early stopping; the
settings were chosen on speakers inside the training folds. Finished cells are kept in the work folder, so that a
stopped run goes on where it stopped.

    python benchmarks/embedded_default.py --data-root DATA --work WORK
"""

from __future__ import annotations

import argparse
import csv
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from sklearn.model_selection import GroupKFold

from speechprompt_hf import DEFAULT_BASE, GSLMForCausalLM, SpeechUnitProcessor
from speechprompt_hf.core.digest import sha256_of_json
from speechprompt_hf.core.files import read_json, write_json, write_text
from speechprompt_hf.data import Splits, load_rows, units_of
from speechprompt_hf.evaluation import class_probabilities, tfidf_baseline
from speechprompt_hf.modeling.base_loading import base_fingerprint, load_base
from speechprompt_hf.tasks import task_from_labels
from speechprompt_hf.training import TrainingSettings, train

LABEL_COLUMNS = {"fsdd": "text", "lt_speech_commands": "word"}
FSDD_PAIRS = (("george", "lucas"), ("jackson", "nicolas"), ("theo", "yweweler"))
TFIDF, PROMPT, NO_PROMPT, UNTRAINED = (
    "TF-IDF 1-3-grams + linear SVM",
    "deep prompt + learnable verbalizer",
    "the verbalizer without a prompt",
    "the prompt on an untrained language model",
)


def read_units(data_root: Path, name: str, processor: Any, cache_dir: Path) -> tuple[Dataset, list[str]]:
    """All rows of a data set with units, and the official split of each."""
    parts, official = [], []
    for split in ("train", "validation", "test"):
        rows = load_rows(data_root / name, split=split, label_column=LABEL_COLUMNS[name])
        parts.append(units_of(rows, processor, cache_dir))
        table = Dataset.from_parquet(str(data_root / name / f"{split}.parquet"))
        official += list(table["official_split"]) if "official_split" in table.column_names else [split] * len(table)
    return concatenate_datasets(parts), official


def folds(name: str, rows: Dataset, official: list[str]) -> Iterator[tuple[str, list[int], list[int]]]:
    """Name, training rows and test rows of every fold."""
    speakers = np.asarray(rows["speaker"])
    if name == "fsdd":
        for pair in FSDD_PAIRS:
            test = np.isin(speakers, pair)
            yield f"fsdd {'+'.join(pair)}", np.flatnonzero(~test).tolist(), np.flatnonzero(test).tolist()
        test = np.asarray(official) == "test"
        yield "fsdd official", np.flatnonzero(~test).tolist(), np.flatnonzero(test).tolist()
        return
    splitter = GroupKFold(5, shuffle=True, random_state=0)
    for number, (training, test) in enumerate(splitter.split(speakers, groups=speakers)):
        yield f"lt_speech_commands {number + 1}", training.tolist(), test.tolist()


def run_cell(
    method: str, train_rows: Dataset, test_rows: Dataset, settings: TrainingSettings, seed: int, work: Path
) -> dict[str, Any]:
    """Train on one fold and count the right test rows."""
    if method == TFIDF:
        result = tfidf_baseline(train_rows, test_rows)
        right = round(result.accuracy * len(test_rows))
        return {"right": right, "trained_parameters": result.num_parameters, "seconds": result.seconds}
    base: Any = DEFAULT_BASE
    if method == UNTRAINED:
        torch.manual_seed(seed)
        base = GSLMForCausalLM(load_base(DEFAULT_BASE).config)
    task = task_from_labels(train_rows["label"])
    output = work / "adapter"
    result = train(
        task,
        Splits(train_rows, test_rows.select(range(1)), test_rows),
        base,
        settings,
        output_dir=output,
        seed=seed,
        method="probe" if method == NO_PROMPT else "prompt",
        model_options=same_verbalizer(settings) if method == NO_PROMPT else None,
        progress=False,
        # Every epoch trains; nothing is chosen by looking at a part that the baseline trains on.
        eval_strategy="no",
        save_strategy="no",
        load_best_model_at_end=False,
    )
    shutil.rmtree(output)
    predicted = class_probabilities(result.model, test_rows, result.vocabulary).argmax(-1)
    right = sum(task.labels[index] == label for index, label in zip(predicted, test_rows["label"], strict=True))
    return {"right": right, "trained_parameters": result.trained_parameters, "seconds": result.seconds}


def same_verbalizer(settings: TrainingSettings) -> dict[str, Any]:
    """What makes the verbalizer without a prompt that of the prompt."""
    return {"readout": settings.readout, "verbalizer_hidden_size": settings.verbalizer_hidden_size}


def summarize(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line a data set and method: mean over folds, then mean and deviation over seeds."""
    lines = []
    groups = {
        "fsdd, 3 folds of held-out speakers": lambda fold: fold.startswith("fsdd") and "official" not in fold,
        "fsdd, official split": lambda fold: fold == "fsdd official",
        "lt_speech_commands, 5 folds": lambda fold: fold.startswith("lt"),
    }
    for data, belongs in groups.items():
        chosen = [cell for cell in cells if belongs(cell["fold"])]
        num_folds = len({cell["fold"] for cell in chosen})
        for method in (TFIDF, PROMPT, NO_PROMPT, UNTRAINED):
            mine = [cell for cell in chosen if cell["method"] == method]
            seeds = sorted({cell["seed"] for cell in mine})
            complete = [seed for seed in seeds if sum(cell["seed"] == seed for cell in mine) == num_folds]
            if not complete:
                continue
            # Over all test rows; the folds of fsdd are of equal size.
            accuracies = [
                sum(cell["right"] for cell in mine if cell["seed"] == seed)
                / sum(cell["rows"] for cell in mine if cell["seed"] == seed)
                for seed in complete
            ]
            lines.append(
                {
                    "data": data,
                    "method": method,
                    "accuracy": float(np.mean(accuracies)),
                    "deviation": float(np.std(accuracies, ddof=1)) if len(complete) > 1 else None,
                    "seeds": len(complete),
                    "trained": max(cell["trained_parameters"] for cell in mine),
                    "seconds": float(np.mean([cell["seconds"] for cell in mine])),
                }
            )
    return lines


def markdown(lines: list[dict[str, Any]], settings: TrainingSettings, fingerprint: dict[str, Any]) -> str:
    """The table, with what it was measured on."""
    text = [
        "# The embedded default from raw audio",
        "",
        f"Made by `benchmarks/embedded_default.py`. Units {fingerprint['digest'][:12]}, base weights "
        f"{fingerprint['weights'][:12]}. Deviation: over seeds, of the accuracy over all folds. Seconds: one run.",
        "",
        "| data | method | accuracy | deviation | seeds | trained parameters | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        deviation = "" if line["deviation"] is None else f"{line['deviation']:.4f}"
        text.append(
            f"| {line['data']} | {line['method']} | {line['accuracy']:.4f} | {deviation} | {line['seeds']} "
            f"| {line['trained']:,} | {line['seconds']:.1f} |"
        )
    text += ["", f"Settings: `{settings}`.", ""]
    return "\n".join(text)


def write_results(
    cells: list[dict[str, Any]], output: Path, settings: TrainingSettings, fingerprint: dict[str, Any]
) -> None:
    """CSV of every cell, and the summary as Markdown."""
    output.mkdir(parents=True, exist_ok=True)
    with open(output / "embedded_default.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(cells[0]))
        writer.writeheader()
        writer.writerows(cells)
    write_text(output / "embedded_default.md", markdown(summarize(cells), settings, fingerprint))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-root", type=Path, required=True, help="folder that holds fsdd/ and lt_speech_commands/"
    )
    parser.add_argument("--work", type=Path, required=True, help="units and finished cells are kept here")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--control-seeds", type=int, default=5, help="seeds of the two controls")
    parser.add_argument("--data", choices=sorted(LABEL_COLUMNS), action="append", help="both by default")
    parser.add_argument("--epochs", type=int, default=None, help="instead of the default settings'")
    parser.add_argument("--readout", choices=("pooled", "separator"), default=None, help="instead of the default's")
    parser.add_argument(
        "--two-layers", action="store_true", help="a verbalizer with 256 detectors, labels smoothed by 0.1"
    )
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    settings = TrainingSettings()
    if arguments.epochs:
        settings = replace(settings, num_epochs=arguments.epochs)
    if arguments.readout:
        settings = replace(settings, readout=arguments.readout)
    if arguments.two_layers:
        settings = replace(settings, verbalizer_hidden_size=256, label_smoothing=0.1)
    processor = SpeechUnitProcessor.from_pretrained(DEFAULT_BASE)
    fingerprint = {"digest": processor.fingerprint["digest"], **base_fingerprint(load_base(DEFAULT_BASE))}
    tables = {
        name: read_units(arguments.data_root, name, processor, arguments.work / "cache")
        for name in arguments.data or sorted(LABEL_COLUMNS)
    }
    plan = [(TFIDF, 0), *((PROMPT, seed) for seed in range(arguments.seeds))]
    plan += [(method, seed) for seed in range(arguments.control_seeds) for method in (NO_PROMPT, UNTRAINED)]
    cells = []
    # Seed by seed, so that a table can be read before the last seed is done.
    for method, seed in plan:
        for name, (rows, official) in tables.items():
            for fold, training, test in folds(name, rows, official):
                key = sha256_of_json([fingerprint, asdict(settings), method, seed, fold])[:24]
                path = arguments.work / "cells" / f"{key}.json"
                if not path.exists():
                    cell = run_cell(method, rows.select(training), rows.select(test), settings, seed, arguments.work)
                    values = {"fold": fold, "method": method, "seed": seed, "rows": len(test), **cell}
                    values["accuracy"] = cell["right"] / len(test)
                    write_json(path, values)
                    print(values, flush=True)
                cells.append(read_json(path))
        write_results(cells, arguments.output, settings, fingerprint)
    print((arguments.output / "embedded_default.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
