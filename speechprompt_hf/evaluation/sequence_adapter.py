"""A saved adapter that says sequences on rows whose texts are known: a report without training."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from datasets import Dataset

from ..core.errors import ConfigurationError
from ..data.fingerprint import rows_fingerprint
from ..data.lengths import max_utterance_tokens
from ..data.text_loading import load_text_rows, load_text_splits
from ..data.unit_identity import check_unit_identity, recorded_unit_fingerprint
from ..data.unit_splits import unit_rows, why_few_are_left, without_too_long
from ..modeling.modeling_for_sequence_generation import SpeechPromptForSequenceGeneration
from ..tasks import SEQUENCE_TASKS, SequenceTask
from .saying import say_rows
from .sequence_report import build_sequence_report, constant_text_baseline, most_frequent_text, text_scores
from .training_record import carved_part, notes_on_known_rows, reading_options, training_report

__all__ = ["evaluate_sequences", "known_baseline", "task_of_adapter"]


def task_of_adapter(adapter: SpeechPromptForSequenceGeneration) -> SequenceTask | None:
    """The task that an adapter was trained for, as the report beside it says; `None` where there is none.

    Args:
        adapter (`SpeechPromptForSequenceGeneration`): opened from its folder.

    Raises:
        ConfigurationError: the report's record of the task is damaged.
    """
    record = (training_report(adapter) or {}).get("task")
    return SequenceTask.from_record(record) if isinstance(record, dict) else None


def evaluate_sequences(
    adapter: str | os.PathLike[str] | SpeechPromptForSequenceGeneration,
    source: str | os.PathLike[str] | Dataset,
    *,
    task: SequenceTask | None = None,
    split: str = "test",
    text_column: str | Sequence[str] | None = None,
    speaker_column: str | None = None,
    num_beams: int = 1,
    cache_dir: str | os.PathLike[str] | None = None,
    config_name: str | None = None,
    revision: str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Measure a saved adapter on rows whose texts are known.

    Parts, columns and rows that were trained on: as `evaluate_adapter`.

    Args:
        adapter (`str | PathLike | SpeechPromptForSequenceGeneration`): folder, Hub id, or the model.
        source (`str | PathLike | Dataset`): see `load_text_rows`; a `Dataset` has normalised texts in `label`.
        task (`SequenceTask`, *optional*): how it is measured; by default as the report beside the adapter says.
        split (`str`, defaults to `"test"`): the part, where the data set has parts.
        text_column (`str | Sequence[str]`, *optional*): see `load_text_splits`; the training's by default.
        speaker_column (`str`, *optional*): see `load_splits`; the training's by default.
        num_beams (`int`, defaults to 1): of the answers.
        cache_dir (`str | PathLike`, *optional*): of units.
        config_name (`str`, *optional*): configuration of a Hub data set.
        revision (`str`, *optional*): revision of a Hub data set.
        seed (`int`, defaults to 0): of the intervals.
        progress (`bool`, defaults to `True`): bars on stderr.

    Returns:
        `dict`: a report; its baseline is the most frequent text of the training rows, or of the measured rows where
            nothing beside the adapter tells it; `counted_on` says which.

    Raises:
        DatasetError: the data cannot be read.
        FingerprintMismatchError: the data are units of another encoder than the adapter's.
        ConfigurationError: recordings and an adapter without a processor, or nothing says what the task is.
    """
    if isinstance(adapter, SpeechPromptForSequenceGeneration):
        model = adapter
    else:
        model = SpeechPromptForSequenceGeneration.from_pretrained(adapter)
    trained_on = training_report(model)
    task = task or task_of_adapter(model)
    if task is None:
        raise ConfigurationError(
            "nothing beside the adapter says what its task is: there is no report.json",
            hint=f"name it: task (--task) is one of {', '.join(SEQUENCE_TASKS)}",
        )
    if text_column is not None:
        task = replace(task, text_columns=(text_column,) if isinstance(text_column, str) else tuple(text_column))
    name, warnings = "given rows", list[str]()
    if not isinstance(source, Dataset):
        name = os.fspath(source)
        made_by = recorded_unit_fingerprint(source)
        given = {
            "text_column": list(task.text_columns),
            "speaker_column": speaker_column,
            "config_name": config_name,
            "revision": revision,
        }
        options, left_out = reading_options(name, given, trained_on)
        extraction = {"cache_dir": cache_dir, "progress": progress}
        load = partial(load_text_splits, text_of=task.text_of)
        held_out = carved_part(load, split, name, trained_on, model, extraction, options)
        if held_out is not None:
            source = held_out
            warnings.append(f"the adapter was trained on this data set: only its {split} part is measured")
        else:
            source = load_text_rows(name, split=split, text_of=task.text_of, **options)
        warnings += left_out
        if "units" in source.column_names:
            check_unit_identity(made_by, model.config.unit_fingerprint, name)
    rows, skips = unit_rows(source, model.processor, cache_dir=cache_dir, progress=progress)
    rows, too_long = without_too_long(rows, max_utterance_tokens(model.lm, model.config.max_output_tokens))
    skips = [*skips, *too_long]
    warnings = [*why_few_are_left(len(rows), skips), *warnings]
    warnings += notes_on_known_rows(rows, model, trained_on)
    answers = say_rows(model, rows, num_beams=num_beams)
    return build_sequence_report(
        task=task,
        scores=text_scores(task, rows, answers, seed=seed),
        baselines={"most_frequent": known_baseline(task, rows, trained_on)},
        method=model.config.method,
        trained_parameters=model.num_trained_parameters(),
        seconds=0.0,
        seed=seed,
        num_beams=num_beams,
        base=model.config.base_model_name_or_path,
        data={"source": name, "speakers_apart": None, "fingerprint": {"digest": rows_fingerprint(rows)}},
        num_rows={split: len(rows)},
        units=model.config.unit_fingerprint,
        skips=skips,
        warnings=warnings,
    )


def known_baseline(task: SequenceTask, rows: Dataset, trained_on: dict[str, Any] | None) -> dict[str, Any]:
    """What always saying the most frequent text is worth: of the training rows, where a report tells it.

    Args:
        task (`SequenceTask`): how it is measured.
        rows (`Dataset`): the measured rows.
        trained_on (`dict`, *optional*): from `training_report`.
    """
    found: Any = trained_on
    for key in ("baselines", "most_frequent", "text"):
        found = found.get(key) if isinstance(found, dict) else None
    if isinstance(found, str):
        return constant_text_baseline(task, found, rows)
    return constant_text_baseline(task, most_frequent_text(list(rows["label"])), rows, "measured rows")
