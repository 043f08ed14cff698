"""A prompt on a frozen unit language model with plain `transformers.Trainer`.

    python docs/train_with_trainer.py --output adapter
    torchrun --nproc_per_node 2 docs/train_with_trainer.py --output adapter --world-size 2

Without --units (a folder with train.parquet and validation.parquet: units, label) the units are made up.
Publishing and going on from the Hub: trainer-on-the-hub.md.
"""

import argparse
from pathlib import Path

import numpy as np
from datasets import Dataset
from transformers import Trainer, TrainingArguments, set_seed

from speechprompt_hf import GSLMConfig, GSLMForCausalLM, SpeechPromptForAudioClassification, UnitVocabulary
from speechprompt_hf.data import UnitCollator, labelled_units, load_rows
from speechprompt_hf.tasks import task_from_labels

parser = argparse.ArgumentParser()
parser.add_argument("--output", required=True)
parser.add_argument("--base", help="folder, Hub id or embedded name; a tiny untrained one by default")
parser.add_argument("--units")
parser.add_argument("--world-size", type=int, default=1)
options = parser.parse_args()
set_seed(0)
rng = np.random.default_rng(0)


def made_up_rows(number: int) -> Dataset:
    labels = [("no", "yes")[row % 2] for row in range(number)]
    units = [[*rng.integers(0, 50, 9).tolist(), 60 if label == "no" else 70] for label in labels]
    return Dataset.from_dict({"units": units, "label": labels})


rows = [
    load_rows(options.units, split=name) if options.units else made_up_rows(96) for name in ("train", "validation")
]
base = options.base or GSLMForCausalLM(GSLMConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4))
task, vocabulary = task_from_labels(rows[0]["label"]), UnitVocabulary.from_num_units(100)
# Without dropout one and two processes give the same adapter.
model = SpeechPromptForAudioClassification.from_base(base, task.id2label, readout="pooled", prompt_dropout=0.0)
arguments = TrainingArguments(
    output_dir=str(Path(options.output) / "checkpoints"),
    num_train_epochs=4, per_device_train_batch_size=16 // options.world_size, learning_rate=1e-2, save_strategy="no",
    eval_strategy="epoch", report_to="none", dataloader_pin_memory=False, use_cpu=True,
)  # fmt: skip
assert arguments.world_size == options.world_size, "start two processes with torchrun; accelerate --cpu starts one"
train_rows, validation_rows = (labelled_units(part, task, vocabulary) for part in rows)
trainer = Trainer(
    model, arguments, UnitCollator(vocabulary), train_rows, validation_rows,
    compute_metrics=lambda result: {"accuracy": float((result.predictions.argmax(-1) == result.label_ids).mean())},
)  # fmt: skip
trainer.train()
accuracy = trainer.evaluate()["eval_accuracy"]
if trainer.is_world_process_zero():
    model.save_pretrained(options.output)
    print(f"accuracy {accuracy:.3f}, {model.num_trained_parameters()} trained parameters, saved to {options.output}")
