"""Connected digits from audio: what is a frozen language model worth for sequences, and which architecture says them?

One to six recordings of one speaker of `fsdd` are joined, with pauses of 20 to 150 ms, and turned into units by the
embedded encoder. Four speakers train, one chooses the epoch, one is the test. The same prompt, verbalizer and number
of updates steer

- the embedded GSLM and the embedded Unit mBART, frozen;
- the same shapes with random weights, frozen;
- and, beside them, the same shapes fine-tuned as a whole, from the pretrained and from random weights.

Finished cells are kept in the work folder, so that a stopped run goes on.

    python benchmarks/connected_digits.py --data-root DATA --work WORK
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import soundfile
import soxr
import torch
from datasets import Dataset
from numpy.typing import NDArray

from speechprompt_hf import DEFAULT_BASE, UNIT_MBART_BASE, SpeechUnitProcessor
from speechprompt_hf.core.digest import sha256_of_json
from speechprompt_hf.core.files import read_json, write_json, write_text
from speechprompt_hf.data import Splits
from speechprompt_hf.evaluation.saying import say_rows
from speechprompt_hf.evaluation.sequence_metrics import sequence_scores
from speechprompt_hf.modeling.base_loading import load_base
from speechprompt_hf.tasks import SequenceTask
from speechprompt_hf.training.sequence_run import train_sequences
from speechprompt_hf.training.sequence_settings import SequenceTrainingSettings

RATE = 16_000
SPEAKERS = {"train": ("jackson", "nicolas", "theo", "yweweler"), "validation": ("george",), "test": ("lucas",)}
NUM_ROWS = {"train": 2400, "validation": 200, "test": 400}
TASK = SequenceTask(name="connected_digits", tokens="words", metrics=("wer",), max_tokens=12)
BASES = {"GSLM": DEFAULT_BASE, "Unit mBART": UNIT_MBART_BASE}


def read_digits(data_root: Path) -> dict[str, list[tuple[str, NDArray[np.float32]]]]:
    """Digits and waves of each speaker, resampled to 16 kHz."""
    found: dict[str, list[tuple[str, NDArray[np.float32]]]] = {}
    for part in ("train", "validation", "test"):
        for row in pq.read_table(data_root / "fsdd" / f"{part}.parquet").to_pylist():
            audio = row["audio"]["bytes"] if isinstance(row["audio"], dict) else row["audio"]
            wave, rate = soundfile.read(io.BytesIO(audio), dtype="float32")
            found.setdefault(row["speaker"], []).append((row["text"], soxr.resample(wave, rate, RATE)))
    return found


def join_digits(
    digits: dict[str, list[tuple[str, NDArray[np.float32]]]], speakers: Sequence[str], number: int, seed: int
) -> list[tuple[str, str, NDArray[np.float32]]]:
    """Speaker, text and wave of so many utterances of one to six digits."""
    generator = np.random.default_rng(seed)
    made = []
    for index in range(number):
        speaker = speakers[index % len(speakers)]
        own = digits[speaker]
        chosen = [own[int(generator.integers(len(own)))] for _ in range(int(generator.integers(1, 7)))]
        pauses = [np.zeros(int(RATE * generator.uniform(0.02, 0.15)), np.float32) for _ in chosen]
        parts = [part for (_, digit), pause in zip(chosen, pauses, strict=True) for part in (digit, pause)]
        made.append((speaker, " ".join(text for text, _ in chosen), np.concatenate(parts)))
    return made


def make_splits(data_root: Path, work: Path) -> Splits:
    """Units of all utterances, made once."""
    path = work / "digits.json"
    if not path.exists():
        digits, processor = read_digits(data_root), SpeechUnitProcessor.from_pretrained(DEFAULT_BASE)
        parts: dict[str, list[dict[str, Any]]] = {}
        for seed, (name, speakers) in enumerate(SPEAKERS.items()):
            rows = join_digits(digits, speakers, NUM_ROWS[name], seed)
            parts[name] = []
            for start in range(0, len(rows), 16):
                block = rows[start : start + 16]
                sequences = processor.encode_units([wave for _, _, wave in block], sampling_rate=RATE)
                for place, ((speaker, text, _), sequence) in enumerate(zip(block, sequences, strict=True)):
                    item = f"{name} {start + place}"
                    units = sequence.units.tolist()
                    parts[name].append({"units": units, "label": text, "speaker": speaker, "item": item})
        write_json(path, parts)
    return Splits(**{name: Dataset.from_list(rows) for name, rows in read_json(path).items()}, speakers_apart=True)


def methods() -> dict[str, dict[str, Any]]:
    """Name of each row of the table → architecture, whether pretrained, what is trained."""
    return {
        f"{architecture}, {start}, {kind}": {"base": source, "pretrained": start == "pretrained", "method": method}
        for kind, method in (("prompt", "prompt"), ("fine-tuned", "finetune"))
        for architecture, source in BASES.items()
        for start in ("pretrained", "untrained")
    }


def run_cell(
    splits: Splits, options: dict[str, Any], settings: SequenceTrainingSettings, seed: int, folder: Path
) -> dict[str, Any]:
    """Train, answer the test part once."""
    lm = load_base(options["base"])
    if not options["pretrained"]:
        torch.manual_seed(seed + 1)
        lm = type(lm)(lm.config)
    result = train_sequences(
        TASK, splits, lm, settings, output_dir=folder, seed=seed, method=options["method"], progress=False, resume=True
    )
    said = [one.text for one in say_rows(result.model, splits.test, result.vocabulary)]
    score = sequence_scores(TASK.metrics, list(splits.test["label"]), said)["wer"]
    return {
        "trained_parameters": result.trained_parameters,
        "validation": result.validation_metric,
        "test": score.value,
        "interval": [score.interval.low, score.interval.high],
        "epochs": result.num_epochs,
        "seconds_per_epoch": result.seconds_per_epoch,
    }


def table(cells: list[dict[str, Any]]) -> str:
    """Markdown: a line a method, means over seeds."""
    lines = [
        "| what steers | trained | WER, validation | WER, test | 95 % of the first seed | seeds | s/epoch |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(cell["name"] for cell in cells):
        rows = [cell for cell in cells if cell["name"] == name]
        low, high = rows[0]["interval"]
        validation, test, seconds = (
            np.mean([row[key] for row in rows]) for key in ("validation", "test", "seconds_per_epoch")
        )
        lines.append(
            f"| {name} | {rows[0]['trained_parameters']:,} | {validation:.3f} | {test:.3f} | {low:.3f}–{high:.3f} "
            f"| {len(rows)} | {seconds:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--tokens", type=int, default=50, help="prompt vectors a layer")
    parser.add_argument("--learning-rate", type=float, default=1e-2, help="of prompts")
    parser.add_argument("--only", default="", help="a part of the names of the methods to run")
    arguments = parser.parse_args()
    splits = make_splits(arguments.data_root, arguments.work)
    settings = SequenceTrainingSettings(
        num_epochs=arguments.epochs,
        patience=arguments.epochs,
        num_virtual_tokens=arguments.tokens,
        learning_rate=arguments.learning_rate,
        batch_size=32,
        eval_batch_size=64,
    )
    cells = []
    for name, options in methods().items():
        for seed in range(arguments.seeds):
            key = sha256_of_json([name, options, vars(settings), seed])[:16]
            path = arguments.work / "cells" / f"{key}.json"
            if not path.exists() and arguments.only in name:
                cell = run_cell(splits, options, settings, seed, arguments.work / "adapters" / key)
                write_json(path, {"name": name, "seed": seed, **cell})
            if path.exists():
                cells.append(read_json(path))
                print(cells[-1], flush=True)
    write_text(arguments.output / "connected_digits.md", table(cells))
    write_json(arguments.output / "connected_digits.json", cells)
    print(table(cells))


if __name__ == "__main__":
    main()
