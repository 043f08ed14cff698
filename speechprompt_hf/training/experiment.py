"""From a data set to a saved adapter and its report."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.embedded import DEFAULT_BASE
from ..core.errors import ConfigurationError
from ..data.extraction import SkippedItem
from ..data.loading import Splits, load_splits
from ..data.trained_rows import TRAINED_ROWS_FILE, write_trained_rows
from ..evaluation.baselines import BASELINES, BaselineResult, encoder_mean_baseline, hidden_state_baseline
from ..evaluation.confusion import save_confusion_matrix
from ..evaluation.prediction import class_probabilities
from ..evaluation.report import build_report, classification_scores, write_report
from ..hub.card import write_model_card
from ..modeling.base_loading import load_base
from ..modeling.prompt_deep import chosen_layers
from ..tasks import Task, task_from_labels
from .experiment_parts import (
    CONFUSION_FILE,
    REPORT_FILE,
    OldReportRemoval,
    base_processor,
    data_record,
    prepared_splits,
)
from .run import TrainingResult, train
from .settings import Method, TrainingSettings

__all__ = ["CONFUSION_FILE", "EXTRA_BASELINES", "REPORT_FILE", "Experiment", "base_processor", "run_experiment"]

EXTRA_BASELINES = ("hidden_states", "encoder_mean")
"""Baselines on request, beside those of every report."""


@dataclass(frozen=True)
class Experiment:
    """What `run_experiment` made.

    Attributes:
        report (`dict`): the content of report.json.
        result (`TrainingResult`): the model and its training.
        task (`Task`): the classes.
        splits (`Splits`): the rows, with units.
    """

    report: dict[str, Any]
    result: TrainingResult
    task: Task
    splits: Splits


def run_experiment(
    source: str | os.PathLike[str] | Splits,
    output_dir: str | os.PathLike[str],
    *,
    base: str | os.PathLike[str] = DEFAULT_BASE,
    task: Task | None = None,
    label_column: str | Sequence[str] | None = None,
    speaker_column: str | None = None,
    settings: TrainingSettings | None = None,
    method: Method = "prompt",
    seed: int = 0,
    num_copies: int = 0,
    extra_baselines: Sequence[str] = (),
    cache_dir: str | os.PathLike[str] | None = None,
    config_name: str | None = None,
    revision: str | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Experiment:
    """Train a classifier on a labelled data set, measure it on held-out rows beside the baselines, and save all.

    Writes the adapter with its processor, `report.json`, `trained_rows.json` and `confusion.png` into `output_dir`.
    What lay there stays until the training has ended; the report of an earlier adapter goes before the new adapter is
    saved, so that it never lies beside another adapter than its own.

    Args:
        source (`str | PathLike | Splits`): see `load_splits`.
        output_dir (`str | PathLike`): the adapter folder.
        base (`str | PathLike`, defaults to the embedded base): Hub id, folder or embedded name.
        task (`Task`, *optional*): the classes; made from the labels by default.
        label_column (`str | Sequence[str]`, *optional*): see `load_splits`; the task's by default.
        speaker_column (`str`, *optional*): see `load_splits`.
        settings (`TrainingSettings`, *optional*): the defaults of all tasks.
        method (`str`, defaults to `"prompt"`): `"prompt"`, `"finetune"` or `"probe"`.
        seed (`int`, defaults to 0): of splits, copies and training.
        num_copies (`int`, defaults to 0): augmented copies of each training recording.
        extra_baselines (`Sequence[str]`): of `"hidden_states"` (logistic regression on the language model's states)
            and `"encoder_mean"` (on the mean of the encoder's features).
        cache_dir (`str | PathLike`, *optional*): of units.
        config_name (`str`, *optional*): configuration of a Hub data set.
        revision (`str`, *optional*): revision of a Hub data set.
        resume (`bool`, defaults to `False`): go on from the last checkpoint.
        progress (`bool`, defaults to `True`): bars on stderr.

    Returns:
        `Experiment`.

    Raises:
        DatasetError: the data cannot be read, split, or used.
        ConfigurationError: an unknown baseline, layers that the base lacks, or recordings and a base without a
            processor.
        AdapterError: there is no such base.
        FingerprintMismatchError: the data are units of another encoder than the base's.
    """
    unknown = sorted(set(extra_baselines) - set(EXTRA_BASELINES))
    if unknown:
        raise ConfigurationError(f"there is no baseline {unknown[0]!r}", hint=f"one of {', '.join(EXTRA_BASELINES)}")
    recorded = source
    if not isinstance(recorded, Splits):
        recorded = load_splits(
            recorded,
            label_column=label_column or (task.label_columns if task is not None else None),
            speaker_column=speaker_column,
            seed=seed,
            config_name=config_name,
            revision=revision,
        )
    lm = load_base(base)
    if settings is not None and method == "prompt":
        # Before units are made of hours of recordings.
        chosen_layers(settings.prompt_layers, lm)
    processor = base_processor(base)
    splits, skips = prepared_splits(
        recorded,
        lm,
        processor,
        max_tokens=lm.max_utterance_tokens,
        cache_dir=cache_dir,
        num_copies=num_copies,
        seed=seed,
        progress=progress,
    )
    task = task or task_from_labels(splits.train["label"])
    result = train(
        task,
        splits,
        lm,
        settings,
        output_dir=output_dir,
        seed=seed,
        method=method,
        processor=processor,
        resume=resume,
        progress=progress,
        callbacks=[OldReportRemoval(Path(output_dir))],
    )
    if not result.is_first_process:
        return Experiment({}, result, task, splits)
    baselines = {name: baseline(splits.train, splits.test) for name, baseline in BASELINES.items()}
    if "hidden_states" in extra_baselines:
        fresh = load_base(base) if method == "finetune" else lm
        options = {"model": fresh, "vocabulary": result.vocabulary}
        baselines["hidden_states"] = hidden_state_baseline(splits.train, splits.test, **options)
    if "encoder_mean" in extra_baselines:
        baselines["encoder_mean"] = _encoder_mean(recorded, processor, skips)
    name = "given rows" if isinstance(source, Splits) else os.fspath(source)
    report = _measure(task, splits, result, baselines, Path(output_dir), name, seed, num_copies, skips)
    return Experiment(report, result, task, splits)


def _measure(
    task: Task,
    splits: Splits,
    result: TrainingResult,
    baselines: Mapping[str, BaselineResult],
    folder: Path,
    source: str,
    seed: int,
    num_copies: int,
    skips: Sequence[SkippedItem],
) -> dict[str, Any]:
    """Classify the test rows, write the report and the confusion matrix."""
    probabilities = class_probabilities(result.model, splits.test, result.vocabulary)
    report = build_report(
        task=task,
        scores=classification_scores(task, splits.test, probabilities, seed=seed),
        baselines=baselines,
        method=result.method,
        trained_parameters=result.trained_parameters,
        seconds=result.seconds,
        seed=seed,
        base=result.model.config.base_model_name_or_path,
        data=data_record(splits, source),
        num_rows={part: len(rows) for part, rows in splits.items()},
        units=result.model.config.unit_fingerprint,
        training={
            "settings": result.settings,
            "num_epochs": result.num_epochs,
            "seconds_per_epoch": result.seconds_per_epoch,
            "validation_metric": result.validation_metric,
            "num_copies": num_copies,
            "history": result.history,
        },
        skips=skips,
        warnings=splits.notes,
    )
    predicted = [task.labels[index] for index in probabilities.argmax(-1)]
    write_trained_rows(folder / TRAINED_ROWS_FILE, splits)
    save_confusion_matrix(folder / CONFUSION_FILE, list(splits.test["label"]), predicted, task.labels)
    write_report(folder / REPORT_FILE, report)
    write_model_card(folder, report=report)
    return report


def _encoder_mean(recorded: Splits, processor: Any, skips: Sequence[SkippedItem]) -> BaselineResult:
    if recorded.kind != "audio":
        raise ConfigurationError("the baseline 'encoder_mean' needs recordings", hint="the data set holds units")
    left_out = {skip.item for skip in skips}
    parts = [
        part.select([row for row, item in enumerate(part["item"]) if item not in left_out])
        for part in (recorded.train, recorded.test)
    ]
    return encoder_mean_baseline(*parts, processor=processor)
