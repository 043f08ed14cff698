"""The papers' own units: the tasks, and the unit language model of `keyword_and_intent.py`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from datasets import Dataset, concatenate_datasets
from filelock import FileLock

import speechprompt_hf  # noqa: F401 - registers the models
from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.core.files import read_json
from speechprompt_hf.core.vocabulary import UnitVocabulary
from speechprompt_hf.data.loading import Splits, load_splits
from speechprompt_hf.pretraining.checkpoints import completed_settings
from speechprompt_hf.pretraining.gslm_pretraining import PretrainingConfig, pretrain_gslm
from speechprompt_hf.tasks import Task, intent_classification, keyword_spotting

TASKS = {
    "KS": (keyword_spotting, "units/speech_commands_v1/hubert100", "label"),
    "IC": (intent_classification, "units/fluent_speech_commands/hubert100", ["action_id", "object_id", "location_id"]),
}
FURTHER_UNITS = ("units/ljspeech/hubert100/validation.parquet", "units/vctk/hubert100/validation.parquet")

LANGUAGE_MODEL = PretrainingConfig(
    num_steps=4000,
    tokens_per_step=8192,
    checkpoint_every=500,
    model={
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 6,
        "intermediate_size": 1536,
        "attention_dropout": 0.0,
    },
)


def read_task(data_root: Path, key: str) -> tuple[Task, Splits]:
    """Units of a task; rows that the source repeats are left out of the training and validation parts."""
    task, folder, columns = TASKS[key]
    splits = load_splits(data_root / folder, label_column=columns)

    def without_repeats(name: str, rows: Dataset) -> Dataset:
        if name == "test":
            return rows
        first: dict[tuple[int, ...], int] = {}
        for index, units in enumerate(rows["units"]):
            first.setdefault(tuple(units), index)
        return rows.select(sorted(first.values()))

    return task, splits.map_parts(without_repeats)


def language_model(data_root: Path, work: Path, config: PretrainingConfig = LANGUAGE_MODEL) -> str:
    """Folder of the unit language model, pretrained if it is not there yet; one process makes it, the others wait.

    Raises:
        ConfigurationError: the one that is there was pretrained with other settings.
    """
    folder, unfinished = work / "gslm", work / "gslm.unfinished"
    with locked(work, "gslm"):
        if (folder / "model.safetensors").exists():
            check_settings(folder, config)
            return str(folder)
        if folder.exists() and not unfinished.exists():
            folder.rename(unfinished)
        pretrain(data_root, unfinished, config)
        unfinished.rename(folder)
    return str(folder)


def pretrain(data_root: Path, folder: Path, config: PretrainingConfig) -> None:
    """Pretrain the unit language model, or go on with it."""
    parts = [read_task(data_root, key)[1].train.select_columns("units") for key in TASKS]
    parts += [Dataset.from_parquet(str(data_root / path)).select_columns("units") for path in FURTHER_UNITS]
    corpus = concatenate_datasets([part.cast(parts[0].features) for part in parts]).shuffle(seed=0)
    held_out = len(corpus) // 40
    pretrain_gslm(
        list(corpus.select(range(held_out, len(corpus)))["units"]),
        folder,
        config,
        vocabulary=UnitVocabulary.from_num_units(100),
        validation=list(corpus.select(range(held_out))["units"]),
    )


def check_settings(folder: Path, config: PretrainingConfig) -> None:
    """Refuse a language model of other settings; one that does not say its settings is taken.

    Raises:
        ConfigurationError: `settings.json` differs; it names the fields.
    """
    path = folder / "settings.json"
    if not path.exists():
        return
    recorded, asked = completed_settings(read_json(path), config), json.loads(json.dumps(asdict(config)))
    different = [name for name in sorted({*recorded, *asked}) if recorded.get(name) != asked.get(name)]
    if different:
        raise ConfigurationError(
            f"the language model in {folder} was pretrained with other settings: {', '.join(different)}",
            hint="give the same settings, or another --work",
        )


def locked(work: Path, name: str) -> FileLock:
    """What one process at a time may make in the work folder; the lock of a killed process is free."""
    path = work / "locks" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)
