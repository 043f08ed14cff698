"""Can a prompt on a frozen base learn 64 real utterances by heart? Word error rate on the rows that were trained.

The shortest 64 recordings of `speechocean762` (validation part), read as characters, on the embedded GSLM and the
embedded Unit mBART. Nothing but prompt, separator, verbalizer and the vectors of characters is trained.

    python benchmarks/overfit_utterances.py --data-root DATA --work WORK
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pyarrow.parquet as pq
from datasets import Dataset

from speechprompt_hf import DEFAULT_BASE, UNIT_MBART_BASE, SpeechUnitProcessor
from speechprompt_hf.core.files import read_json, write_json, write_text
from speechprompt_hf.data import Splits
from speechprompt_hf.evaluation.saying import say_rows
from speechprompt_hf.evaluation.sequence_metrics import sequence_scores
from speechprompt_hf.tasks import speech_recognition
from speechprompt_hf.training.sequence_run import train_sequences
from speechprompt_hf.training.sequence_settings import SequenceTrainingSettings

BASES = {"GSLM": DEFAULT_BASE, "Unit mBART": UNIT_MBART_BASE}
NUM_UTTERANCES = 64
PATIENCE = 4  # measures, one in twenty epochs


def read_rows(data_root: Path) -> Dataset:
    """Units and normalised texts of the shortest utterances."""
    rows = pq.read_table(data_root / "speechocean762" / "validation.parquet").to_pylist()
    rows = sorted(rows, key=lambda row: row["duration"])[:NUM_UTTERANCES]
    audio = [row["audio"]["bytes"] if isinstance(row["audio"], dict) else row["audio"] for row in rows]
    units = SpeechUnitProcessor.from_pretrained(DEFAULT_BASE).encode_units(audio)
    return Dataset.from_list(
        [
            {
                "units": sequence.units.tolist(),
                "label": speech_recognition.normalize(row["text"]),
                "speaker": row["speaker"],
                "item": row["path"],
            }
            for row, sequence in zip(rows, units, strict=True)
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--tokens", type=int, default=180)
    parser.add_argument("--learning-rate", type=float, default=2e-2)
    parser.add_argument("--only", default="", help="a part of the architecture's name")
    arguments = parser.parse_args()
    rows = read_rows(arguments.data_root)
    splits = Splits(train=rows, validation=rows, test=rows)
    settings = SequenceTrainingSettings(
        num_epochs=arguments.epochs,
        patience=PATIENCE,
        num_virtual_tokens=arguments.tokens,
        learning_rate=arguments.learning_rate,
        prompt_dropout=0.0,
        unit_dropout=0.0,
        batch_size=16,
    )
    lines = ["| base | trained | epochs | WER | CER | minutes |", "|---|---|---|---|---|---|"]
    for name, base in BASES.items():
        path = arguments.work / f"{name}.json"
        if not path.exists() and arguments.only in name:
            folder = arguments.work / name
            result = train_sequences(
                speech_recognition,
                splits,
                base,
                settings,
                output_dir=folder,
                progress=False,
                resume=True,
                # Answers cost more than updates: only every twentieth epoch is measured.
                eval_strategy="steps",
                save_strategy="steps",
                eval_steps=80,
                save_steps=80,
            )
            said = [one.text for one in say_rows(result.model, rows)]
            scores = sequence_scores(speech_recognition.metrics, list(rows["label"]), said)
            write_json(
                path,
                {
                    "trained": result.trained_parameters,
                    "epochs": result.num_epochs,
                    "minutes": result.seconds / 60,
                    **{metric: score.value for metric, score in scores.items()},
                },
            )
        if path.exists():
            cell = read_json(path)
            lines.append(
                f"| {name} | {cell['trained']:,} | {cell['epochs']:.0f} | {cell['wer']:.4f} | {cell['cer']:.4f} "
                f"| {cell['minutes']:.1f} |"
            )
            print(lines[-1], flush=True)
    write_text(arguments.output / "overfit_utterances.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
