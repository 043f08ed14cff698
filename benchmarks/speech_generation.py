"""What prompts learn of speech after speech, on units of real recordings: correction and continuation.

Correction: unit error rates of doing nothing, of the untrained adapter and of the trained one. Continuation:
perplexity by the base, auto-BLEU and VERT of units, of what really follows, of what the adapter draws before and after
its training, and of units at random.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset

from speechprompt_hf import DEFAULT_BASE, SpeechPromptForSpeechGeneration
from speechprompt_hf.core.files import write_json
from speechprompt_hf.data.speech_pairs import load_speech_splits, pair_splits
from speechprompt_hf.evaluation import diversity, say_rows, sequence_score, unit_perplexity
from speechprompt_hf.modeling.base_loading import load_base
from speechprompt_hf.modeling.target_units import tokens_to_units
from speechprompt_hf.tasks import speech_task_by_name
from speechprompt_hf.tasks.unit_pairs import without_repeats
from speechprompt_hf.training import SequenceTrainingSettings, run_speech_experiment


def texts(rows):
    return [" ".join(map(str, row)) for row in rows]


def error_rate(model, rows):
    return sequence_score("uer", list(rows["label"]), [said.text for said in say_rows(model, rows)])


def drawn(model, rows, seed=0):
    """A continuation of each row, in units."""
    torch.manual_seed(seed)
    found = []
    for row in rows["units"]:
        ids = torch.tensor([model.vocabulary.input_ids(row)])
        longest = {"max_new_tokens": 60, "do_sample": True, "temperature": 0.8, "top_k": 0}
        said = tokens_to_units(model.generate(input_ids=ids, **longest)[0, 1:].tolist())
        found.append(said[1:] if said and said[0] == row[-1] else said)
    return found


def measured(lm, vocabulary, prompts, said):
    kept = [(prompt, row) for prompt, row in zip(prompts, said, strict=True) if row]
    perplexity = unit_perplexity(lm, [row for _, row in kept], [prompt for prompt, _ in kept], vocabulary=vocabulary)
    varied = diversity(texts(row for _, row in kept))
    return {
        "perplexity": perplexity.value,
        "auto_bleu": varied.auto_bleu,
        "self_bleu": varied.self_bleu,
        "vert": varied.vert,
        "units": float(np.mean([len(row) for row in said])),
        "empty": sum(not row for row in said),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="Parquet of units")
    parser.add_argument("--rows", type=int, default=480)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--virtual-tokens", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result: dict = {"rows": options.rows, "epochs": options.epochs, "virtual_tokens": options.virtual_tokens}
    settings = SequenceTrainingSettings(num_virtual_tokens=options.virtual_tokens, num_epochs=options.epochs)
    lm = load_base(DEFAULT_BASE)
    with tempfile.TemporaryDirectory() as folder:
        table = Dataset.from_parquet(str(options.data)).shuffle(seed=0).select(range(options.rows))
        # Those that are read alone: other columns would be taken for a label.
        table.select_columns(["units", "speaker"]).to_parquet(f"{folder}/rows.parquet")
        for name in ("unit_correction", "speech_continuation"):
            task = speech_task_by_name(name)
            splits = load_speech_splits(f"{folder}/rows.parquet", task)
            pairs, _ = pair_splits(splits, task, None, num_units=lm.num_units, progress=False)
            new = SpeechPromptForSpeechGeneration.from_base(
                DEFAULT_BASE, speech_task=task.kind, num_virtual_tokens=options.virtual_tokens, max_output_tokens=256
            )
            made = run_speech_experiment(f"{folder}/rows.parquet", f"{folder}/{name}", task=task, settings=settings)
            model, test = made.result.model, pairs.test
            found: dict = {"test_rows": len(test), "trained": made.report["value"], "seconds": made.report["seconds"]}
            if name == "unit_correction":
                found["nothing_done"] = sequence_score("uer", list(test["label"]), texts(test["units"]))
                found["untrained"] = error_rate(new, test)
            else:
                real = [[int(unit) for unit in text.split()] for text in test["label"]]
                generator = np.random.default_rng(0)
                noise = [without_repeats(generator.integers(0, lm.num_units, len(row)).tolist()) for row in real]
                noise = [
                    row[1:] if row[0] == prompt[-1] and len(row) > 1 else row
                    for prompt, row in zip(test["units"], noise, strict=True)
                ]
                said = {"real": real, "drawn": drawn(model, test), "drawn_untrained": drawn(new, test)}
                said["random"] = noise
                prompts = list(test["units"])
                found |= {key: measured(lm, model.vocabulary, prompts, rows) for key, rows in said.items()}
            result[name] = found
            print(name, found, flush=True)
    if options.json:
        write_json(options.json, result)


if __name__ == "__main__":
    main()
