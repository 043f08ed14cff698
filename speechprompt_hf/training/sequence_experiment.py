"""From a data set whose rows have texts to a saved adapter and its report."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from ..core.embedded import DEFAULT_BASE, UNIT_MBART_BASE
from ..data.extraction import SkippedItem
from ..data.loading import Splits
from ..data.sequence_rows import task_tokenizer, without_long_texts
from ..data.text_loading import load_text_splits
from ..data.trained_rows import TRAINED_ROWS_FILE, write_trained_rows
from ..evaluation.saying import say_rows
from ..evaluation.sequence_report import (
    build_sequence_report,
    constant_text_baseline,
    most_frequent_text,
    text_scores,
    write_sequence_report,
)
from ..hub.card import write_model_card
from ..modeling.base_loading import load_base
from ..modeling.modeling_for_sequence_generation import SpeechPromptForSequenceGeneration
from ..modeling.prompt_deep import chosen_layers
from ..tasks import SequenceTask
from .experiment_parts import REPORT_FILE, OldReportRemoval, base_processor, data_record, prepared_splits
from .sequence_run import SequenceTrainingResult, longest_answer, room_for_utterances, train_sequences
from .sequence_settings import SequenceMethod, SequenceTrainingSettings, check_sequence_method

__all__ = ["SequenceExperiment", "run_sequence_experiment"]


@dataclass(frozen=True)
class SequenceExperiment:
    """What `run_sequence_experiment` made.

    Attributes:
        report (`dict`): the content of report.json.
        result (`SequenceTrainingResult`): the model and its training.
        task (`SequenceTask`): what is said.
        splits (`Splits`): the rows, with units and normalised texts.
    """

    report: dict[str, Any]
    result: SequenceTrainingResult
    task: SequenceTask
    splits: Splits


def run_sequence_experiment(
    source: str | os.PathLike[str] | Splits,
    output_dir: str | os.PathLike[str],
    *,
    task: SequenceTask,
    base: str | os.PathLike[str] = DEFAULT_BASE,
    text_column: str | Sequence[str] | None = None,
    speaker_column: str | None = None,
    settings: SequenceTrainingSettings | None = None,
    method: SequenceMethod = "prompt",
    seed: int = 0,
    num_copies: int = 0,
    cache_dir: str | os.PathLike[str] | None = None,
    config_name: str | None = None,
    revision: str | None = None,
    resume: bool = False,
    progress: bool = True,
    source_name: str | None = None,
    tokenizer: PreTrainedTokenizerFast | None = None,
    model_class: type[SpeechPromptForSequenceGeneration] = SpeechPromptForSequenceGeneration,
    model_options: Mapping[str, Any] | None = None,
    further: Mapping[str, Any] | None = None,
    skips: Sequence[SkippedItem] = (),
) -> SequenceExperiment:
    """Train a model that says sequences, measure it on held-out rows beside a baseline, and save all.

    Writes the adapter with its processor and model card, `report.json` and `trained_rows.json` into `output_dir`.
    What lay there stays until the training has ended.

    Args:
        source (`str | PathLike | Splits`): see `load_text_splits`; `Splits` have normalised texts in `label`.
        output_dir (`str | PathLike`): the adapter folder.
        task (`SequenceTask`): what is said, and how it is measured.
        base (`str | PathLike`, defaults to the embedded base): Hub id, folder or embedded name.
        text_column (`str | Sequence[str]`, *optional*): the task's by default.
        speaker_column (`str`, *optional*): see `load_splits`.
        settings (`SequenceTrainingSettings`, *optional*): the defaults of all tasks.
        method (`str`, defaults to `"prompt"`): `"prompt"` or `"finetune"`.
        seed (`int`, defaults to 0): of splits, copies and training.
        num_copies (`int`, defaults to 0): augmented copies of each training recording.
        cache_dir (`str | PathLike`, *optional*): of units.
        config_name (`str`, *optional*): configuration of a Hub data set.
        revision (`str`, *optional*): revision of a Hub data set.
        resume (`bool`, defaults to `False`): go on from the last checkpoint.
        progress (`bool`, defaults to `True`): bars on stderr.
        source_name (`str`, *optional*): what the report calls `Splits`.
        tokenizer (`PreTrainedTokenizerFast`, *optional*): of the output vocabulary; made from the training texts by
            default.
        model_class (`type`, defaults to `SpeechPromptForSequenceGeneration`): see `train_sequences`.
        model_options (`Mapping`, *optional*): see `train_sequences`.
        further (`Mapping`, *optional*): keys that are put into the report, too.
        skips (`Sequence[SkippedItem]`): rows of `Splits` that were left out before.

    Returns:
        `SequenceExperiment`.

    Raises:
        DatasetError: the data cannot be read, split, or used.
        ConfigurationError: another method, layers that the base lacks, recordings and a base without a processor, or a
            run that is resumed with other settings.
        AdapterError: there is no such base.
        FingerprintMismatchError: the data are units of another encoder than the base's.
        LabelError: no training row has anything to say.
    """
    settings = settings or SequenceTrainingSettings()
    # Before data are read, and units made of hours of recordings.
    check_sequence_method(method)
    if text_column is not None:
        task = replace(task, text_columns=(text_column,) if isinstance(text_column, str) else tuple(text_column))
    recorded = source
    if not isinstance(recorded, Splits):
        recorded = load_text_splits(
            recorded,
            text_column=task.text_columns,
            speaker_column=speaker_column,
            text_of=task.text_of,
            seed=seed,
            config_name=config_name,
            revision=revision,
        )
    lm = load_base(base)
    if method == "prompt":
        chosen_layers(settings.prompt_layers, lm)
    all_skips, text_skips = list(skips), list[SkippedItem]()
    given_tokenizer = tokenizer
    tokenizer = given_tokenizer or task_tokenizer(task, list(recorded.train["label"]))
    recorded = _with_short_texts(recorded, tokenizer, task.max_tokens, text_skips)
    if given_tokenizer is None and text_skips and task.tokens != "subwords":
        # Nothing would teach tokens that only left out texts have. Other subwords would have other lengths.
        tokenizer = task_tokenizer(task, list(recorded.train["label"]))
    longest = longest_answer(task, tokenizer, recorded)
    limits = {"max_text_tokens": task.max_tokens, "max_utterance_tokens": room_for_utterances(lm, longest)}
    splits, unit_skips = prepared_splits(
        recorded,
        lm,
        processor := base_processor(base),
        max_tokens=limits["max_utterance_tokens"],
        cache_dir=cache_dir,
        num_copies=num_copies,
        seed=seed,
        progress=progress,
    )
    all_skips += [*text_skips, *unit_skips]
    result = train_sequences(
        task,
        splits,
        lm,
        settings,
        output_dir=output_dir,
        seed=seed,
        method=method,
        processor=processor,
        tokenizer=tokenizer,
        max_output_tokens=longest,
        resume=resume,
        progress=progress,
        callbacks=[OldReportRemoval(Path(output_dir))],
        model_class=model_class,
        model_options=model_options,
    )
    if not result.is_first_process:
        return SequenceExperiment({}, result, task, splits)
    folder = Path(output_dir)
    answers = say_rows(result.model, splits.test, result.vocabulary, num_beams=settings.num_beams)
    baseline = constant_text_baseline(task, most_frequent_text(list(splits.train["label"])), splits.test)
    scores = text_scores(task, splits.test, answers, seed=seed)
    report = build_sequence_report(
        task=task,
        scores=scores,
        baselines={"most_frequent": baseline},
        method=result.method,
        trained_parameters=result.trained_parameters,
        seconds=result.seconds,
        seed=seed,
        num_beams=settings.num_beams,
        base=result.model.config.base_model_name_or_path,
        data=data_record(
            splits, source_name or ("given rows" if isinstance(source, Splits) else os.fspath(source)), limits
        ),
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
        skips=all_skips,
        warnings=[*splits.notes, *_why_it_learnt_little(task, scores, baseline)],
    )
    report.update(further or {})
    write_trained_rows(folder / TRAINED_ROWS_FILE, splits)
    write_sequence_report(folder / REPORT_FILE, report)
    write_model_card(folder, report=report)
    return SequenceExperiment(report, result, task, splits)


def _why_it_learnt_little(task: SequenceTask, scores: Mapping[str, Any], baseline: Mapping[str, Any]) -> list[str]:
    """What a reader may try where the answers are worth no more than one text for all recordings."""
    found, constant = scores["value"], baseline["scores"][task.metric]
    if (found < constant) if task.lower_is_better else (found > constant):
        return []
    return [
        "the answers are no better than always saying the most frequent text: train longer (--epochs), with a higher "
        "--learning-rate (0.01, 0.02), on the other base inside the package (--base "
        f"{UNIT_MBART_BASE}), or with --tokens words where there are few different words"
    ]


def _with_short_texts(splits: Splits, tokenizer: Any, max_tokens: int, skips: list[SkippedItem]) -> Splits:
    """Texts that can be taught; `skips` gets the others. Test rows are measured as they are."""

    def short(name: str, rows: Dataset) -> Dataset:
        if name == "test":
            return rows
        kept, too_long = without_long_texts(rows, tokenizer, max_tokens, name)
        skips.extend(too_long)
        return kept

    return splits.map_parts(short)
