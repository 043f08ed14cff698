"""`train`: a task, its units and a base to a saved adapter."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, f1_score
from transformers import EarlyStoppingCallback, EvalPrediction, TrainerCallback
from transformers.trainer_utils import set_seed

from ..core.embedded import DEFAULT_BASE
from ..core.errors import ConfigurationError
from ..core.vocabulary import UnitVocabulary
from ..data.collators import UnitCollator, labelled_units
from ..data.loading import Splits
from ..modeling.base_loading import known_vocabulary, load_base
from ..modeling.modeling_for_audio_classification import SpeechPromptForAudioClassification
from ..tasks import Task
from .callbacks import TrainingProgress
from .run_parts import (
    CHECKPOINT_FOLDER,
    RunOutcome,
    check_lengths,
    outcome_of,
    run_record,
    train_and_save,
    training_arguments,
)
from .settings import Method, TrainingSettings
from .trainer import PromptTrainer

__all__ = ["TrainingResult", "compute_metrics", "train"]


@dataclass(frozen=True, kw_only=True)
class TrainingResult(RunOutcome):
    """A trained model and how it came about.

    Attributes:
        model (`SpeechPromptForAudioClassification`): of the best epoch, in evaluation mode.
        method (`str`): `"prompt"`, `"finetune"` or `"probe"`.
    """

    model: SpeechPromptForAudioClassification
    method: Method


def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Accuracy and macro-F1 for `Trainer`, from logits `(R, M)` and class indices `(R,)`."""
    predicted = np.asarray(prediction.predictions).argmax(-1)
    expected = np.asarray(prediction.label_ids)
    return {
        "accuracy": float(accuracy_score(expected, predicted)),
        "macro_f1": float(f1_score(expected, predicted, average="macro", zero_division=0)),
    }


def train(
    task: Task,
    splits: Splits,
    base: Any = DEFAULT_BASE,
    settings: TrainingSettings | None = None,
    *,
    output_dir: str | os.PathLike[str],
    seed: int = 0,
    method: Method = "prompt",
    processor: Any = None,
    resume: bool = False,
    progress: bool = True,
    callbacks: Sequence[TrainerCallback] = (),
    model_options: Mapping[str, Any] | None = None,
    **trainer_arguments: Any,
) -> TrainingResult:
    """Train a classifier on a base and save it.

    Only prompt, separator and verbalizer are trained (with `method="finetune"` the language model too, with `"probe"`
    the verbalizer alone). The epoch with the best validation metric is kept.

    Args:
        task (`Task`): the classes.
        splits (`Splits`): rows with units, from `extract_units` or a data set of units.
        base (`str | PathLike | UnitLanguageModel`, defaults to the embedded base): the language model.
        settings (`TrainingSettings`, *optional*): the defaults of all tasks.
        output_dir (`str | PathLike`): receives the adapter; checkpoints while training runs.
        seed (`int`, defaults to 0): of initialisation, order and dropout.
        method (`str`, defaults to `"prompt"`): `"prompt"`, `"finetune"` or `"probe"`.
        processor (`SpeechUnitProcessor`, *optional*): made the units; attached to the model and saved with it.
        resume (`bool`, defaults to `False`): go on from the last complete checkpoint in `output_dir`, exactly; from
            the start where there is none.
        progress (`bool`, defaults to `True`): a bar on stderr.
        callbacks (`Sequence[TrainerCallback]`): further callbacks of the trainer.
        model_options (`Mapping`, *optional*): further arguments of `SpeechPromptForAudioClassification.from_base`;
            they win over the settings.
        trainer_arguments: further arguments of `TrainingArguments`.

    Returns:
        `TrainingResult`.

    Raises:
        ConfigurationError: the splits hold recordings, settings contradict each other or the task, or a run is
            resumed with other settings or rows.
        UnitError: a unit that the base does not know, or an utterance longer than its positions.
        LabelError: a label that is not the task's.
    """
    settings = settings or TrainingSettings()
    if splits.kind != "units":
        raise ConfigurationError("the splits hold recordings", hint="make their units first: data.extract_units")
    set_seed(seed)
    lm = load_base(base)
    vocabulary = known_vocabulary(processor, base) or UnitVocabulary.from_num_units(lm.num_units)
    tables = {name: labelled_units(rows, task, vocabulary) for name, rows in splits.items() if name != "test"}
    for label in set(splits.test["label"]):
        task.index_of(label)
    check_lengths(splits, lm.max_utterance_tokens)
    model = SpeechPromptForAudioClassification.from_base(
        lm,
        task.id2label,
        label_sequences=task.label_sequences,
        vocabulary=vocabulary,
        processor=processor,
        seed=seed,
        **{
            "training_units": splits.train["units"],
            "training_labels": tables["train"]["labels"],
            **settings.model_options(method),
            **(model_options or {}),
        },
    )
    if settings.label_smoothing and model.config.readout == "separator" and task.num_label_positions > 1:
        raise ConfigurationError(
            f"label_smoothing is {settings.label_smoothing} with {task.num_label_positions} labels an utterance, read "
            "one after another",
            hint="label_smoothing=0.0, or readout='pooled'",
        )
    checkpoints = Path(output_dir) / CHECKPOINT_FOLDER
    arguments = training_arguments(
        checkpoints,
        settings.trainer_options(method),
        seed=seed,
        metric=task.metric,
        greater_is_better=True,
        gradient_checkpointing=settings.gradient_checkpointing,
        num_rows=len(tables["train"]),
        further=trainer_arguments,
    )
    early = [EarlyStoppingCallback(settings.patience)] if arguments.load_best_model_at_end else []
    trainer = PromptTrainer(
        model=model,
        args=arguments,
        train_dataset=tables["train"],
        eval_dataset=tables["validation"],
        data_collator=UnitCollator(vocabulary, lm.max_utterance_tokens),
        compute_metrics=compute_metrics,
        callbacks=[*early, *([TrainingProgress()] if progress else []), *callbacks],
    )
    run = run_record(settings, model_options, model, tables, method=method, seed=seed, labels=list(task.labels))
    seconds = train_and_save(trainer, run, output_dir=Path(output_dir), resume=resume, processor=processor)
    outcome = outcome_of(trainer, settings, seconds)
    return TrainingResult(model=model, method=method, vocabulary=vocabulary, **outcome)
