"""What every training run on our trainer does alike: its arguments, its checkpoints, and what it saves."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PrinterCallback, ProgressCallback, TrainingArguments

from ..core.errors import UnitError
from ..core.vocabulary import UnitVocabulary
from ..data.lengths import TOO_LONG_HINT, why_too_long
from ..data.loading import Splits
from ..modeling.modeling_speechprompt import SpeechPromptPreTrainedModel
from ..modeling.saved_processor import save_processor
from .callbacks import CLASSIFIER_METRICS, epoch_history
from .resuming import check_run, last_complete_checkpoint, rows_digest, write_run
from .trainer import PromptTrainer

__all__ = [
    "CHECKPOINT_FOLDER",
    "RunOutcome",
    "check_lengths",
    "outcome_of",
    "run_record",
    "train_and_save",
    "training_arguments",
]

CHECKPOINT_FOLDER = "checkpoints"
"""Where checkpoints are kept inside the output folder while training runs."""


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """How a training run went, whatever it trained.

    Attributes:
        vocabulary (`UnitVocabulary`): units → token ids.
        trained_parameters (`int`): numbers that training changed.
        validation_metric (`float`): the task's metric on the validation rows at the best epoch; `nan` where none was
            measured.
        num_epochs (`float`): passes over the training rows.
        seconds (`float`): of training, validation included; of the last process only after a resume.
        history (`list[dict[str, float]]`): an entry an epoch.
        settings (`dict`): what the run was trained with.
        is_first_process (`bool`): whether this is the process that writes files.
    """

    vocabulary: UnitVocabulary
    trained_parameters: int
    validation_metric: float
    num_epochs: float
    seconds: float
    history: list[dict[str, float]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    is_first_process: bool = True

    @property
    def seconds_per_epoch(self) -> float:
        """Mean time of a pass over the training rows."""
        return self.seconds / max(self.num_epochs, 1e-9)


def check_lengths(splits: Splits, max_tokens: int) -> None:
    """Refuse what would fail in the middle of training, before it starts.

    Args:
        splits (`Splits`): rows with units.
        max_tokens (`int`): tokens of the longest utterance.

    Raises:
        UnitError: an utterance is longer.
    """
    for name, rows in splits.items():
        for item, units in zip(rows["item"], rows["units"], strict=True):
            too_long = why_too_long(len(units), max_tokens)
            if too_long:
                raise UnitError(f"{item} ({name}) has {too_long}", hint=TOO_LONG_HINT)


def training_arguments(
    folder: Path,
    options: Mapping[str, Any],
    *,
    seed: int,
    metric: str,
    greater_is_better: bool,
    gradient_checkpointing: bool,
    num_rows: int,
    further: Mapping[str, Any],
) -> TrainingArguments:
    """Arguments of a run that measures and saves after every epoch and keeps the best one.

    The warm-up takes no more than a tenth of all updates: few rows in few epochs would not come to its end.

    Args:
        folder (`Path`): of the checkpoints.
        options (`Mapping`): from the settings.
        seed (`int`): of order and dropout.
        metric (`str`): what chooses the best epoch.
        greater_is_better (`bool`): whether more of it is better.
        gradient_checkpointing (`bool`): less memory, more time.
        num_rows (`int`): training rows.
        further (`Mapping`): arguments that win over all others.
    """
    arguments: dict[str, Any] = {
        "output_dir": str(folder),
        "seed": seed,
        "data_seed": seed,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "logging_strategy": "epoch",
        "save_total_limit": 1,
        "load_best_model_at_end": True,
        "metric_for_best_model": metric,
        "greater_is_better": greater_is_better,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "label_names": ["labels"],
        **options,
        **further,
    }
    if options.get("bf16") and not torch.cuda.is_available():
        # Trainer takes bf16 without a GPU only if it is told to stay on the CPU.
        arguments.setdefault("use_cpu", True)
    if gradient_checkpointing:
        # transformers 5.24 renamed it and warns about the old name.
        names = TrainingArguments.__dataclass_fields__
        new, old = "activation_checkpointing", "gradient_checkpointing"
        arguments[new if new in names else old] = True
    made = TrainingArguments(**arguments)
    if "warmup_steps" in options and "warmup_steps" not in further:
        made.warmup_steps = min(made.warmup_steps, _num_updates(made, num_rows) // 10)
    return made


def run_record(
    settings: Any, model_options: Mapping[str, Any] | None, model: Any, tables: Mapping[str, Dataset], **further: Any
) -> dict[str, Any]:
    """What a run is trained with, as it is kept beside its checkpoints and compared when it is resumed.

    Args:
        settings (`dataclass`): of the run.
        model_options (`Mapping`, *optional*): what won over them.
        model (`SpeechPromptPreTrainedModel`): names its base.
        tables (`Mapping[str, Dataset]`): name of a part → the rows that the trainer reads.
        further: what else must not change: task, method, seed.

    Returns:
        `dict`: fit for JSON.
    """
    return {
        "settings": asdict(settings),
        "model_options": {name: str(value) for name, value in (model_options or {}).items()},
        "base": model.config.base_fingerprint,
        "rows": {name: rows_digest(table) for name, table in tables.items()},
        **further,
    }


def outcome_of(
    trainer: PromptTrainer, settings: Any, seconds: float, metrics: Sequence[str] = CLASSIFIER_METRICS
) -> dict[str, Any]:
    """The fields of `RunOutcome`, but for the vocabulary, of a run that has ended.

    Args:
        trainer (`PromptTrainer`): of the run.
        settings (`dataclass`): of the run.
        seconds (`float`): that it took.
        metrics (`Sequence[str]`, *optional*): of the history; those of classifiers by default.
    """
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    best = trainer.state.best_metric
    return {
        "trained_parameters": model.num_trained_parameters(),
        "validation_metric": math.nan if best is None else float(best),
        "num_epochs": float(trainer.state.epoch or 0.0),
        "seconds": seconds,
        "history": epoch_history(trainer.state, metrics),
        "settings": asdict(settings),
        "is_first_process": trainer.is_world_process_zero(),
    }


def _num_updates(arguments: TrainingArguments, num_rows: int) -> int:
    """Updates of a whole run: every process takes its batch of each of them."""
    if arguments.max_steps > 0:
        return arguments.max_steps
    rows_of_update = arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size
    return math.ceil(math.ceil(num_rows / rows_of_update) * arguments.num_train_epochs)


def train_and_save(
    trainer: PromptTrainer, run: dict[str, Any], *, output_dir: Path, resume: bool, processor: Any = None
) -> float:
    """Train, from the last complete checkpoint on where one is resumed, and save the adapter of the best epoch.

    Args:
        trainer (`PromptTrainer`): its checkpoints are in `output_dir / CHECKPOINT_FOLDER`; its model is in evaluation
            mode afterwards.
        run (`dict`): what the run is trained with.
        output_dir (`Path`): receives the adapter.
        resume (`bool`): go on from the last checkpoint.
        processor (`SpeechUnitProcessor`, *optional*): saved with the adapter.

    Returns:
        `float`: seconds of training, validation included.

    Raises:
        ConfigurationError: the run began with other settings or rows.
    """
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    checkpoints = output_dir / CHECKPOINT_FOLDER
    last = _last_checkpoint(checkpoints, run, resume, is_first=trainer.is_world_process_zero())
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    start = time.perf_counter()
    trainer.train(resume_from_checkpoint=last)
    seconds = time.perf_counter() - start
    model.eval()
    # Other processes may still read the best checkpoint.
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        _save(model, processor, output_dir)
        shutil.rmtree(checkpoints, ignore_errors=True)
    return seconds


def _last_checkpoint(folder: Path, run: dict[str, Any], resume: bool, *, is_first: bool) -> str | None:
    last = last_complete_checkpoint(folder) if resume else None
    if last is not None:
        check_run(folder, run)
    elif is_first:
        shutil.rmtree(folder, ignore_errors=True)
        write_run(folder, run)
    return last


def _save(model: SpeechPromptPreTrainedModel, processor: Any, folder: Path) -> None:
    model.save_pretrained(folder)
    if processor is not None and not save_processor(processor, folder, model.config):
        # Nothing else holds the encoder.
        processor.save_pretrained(folder, save_encoder=True)
