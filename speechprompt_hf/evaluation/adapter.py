"""A saved adapter on labelled rows: a report without training."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from datasets import Dataset

from ..core.errors import DatasetError
from ..data.fingerprint import rows_fingerprint
from ..data.loading import load_rows, load_splits
from ..data.unit_identity import check_unit_identity, recorded_unit_fingerprint
from ..data.unit_splits import unit_rows, why_few_are_left, without_too_long
from ..modeling.modeling_for_audio_classification import SpeechPromptForAudioClassification
from ..tasks import Task
from .baselines import BaselineResult, constant_baseline, majority_baseline
from .prediction import class_probabilities
from .report import build_report, classification_scores
from .training_record import carved_part, notes_on_known_rows, reading_options, training_report

__all__ = ["evaluate_adapter"]


def evaluate_adapter(
    adapter: str | os.PathLike[str] | SpeechPromptForAudioClassification,
    source: str | os.PathLike[str] | Dataset,
    *,
    split: str = "test",
    label_column: str | Sequence[str] | None = None,
    speaker_column: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    config_name: str | None = None,
    revision: str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Measure a saved adapter on labelled rows.

    Of the very data set that the adapter was trained on, which the report beside the adapter tells by its content,
    the parts are those of its training: `"test"` is what it held out. Columns that are not given are those of the
    training, where the data set has them. Rows that the adapter was trained on are counted in the warnings.

    Args:
        adapter (`str | PathLike | SpeechPromptForAudioClassification`): folder, Hub id, or the model.
        source (`str | PathLike | Dataset`): see `load_rows`.
        split (`str`, defaults to `"test"`): the part, where the data set has parts.
        label_column (`str | Sequence[str]`, *optional*): see `load_splits`; the training's by default.
        speaker_column (`str`, *optional*): see `load_splits`; the training's by default.
        cache_dir (`str | PathLike`, *optional*): of units.
        config_name (`str`, *optional*): configuration of a Hub data set.
        revision (`str`, *optional*): revision of a Hub data set.
        seed (`int`, defaults to 0): of the interval.
        progress (`bool`, defaults to `True`): bars on stderr.

    Returns:
        `dict`: a report; its only baseline is the most frequent label of the training rows, or of the measured rows
            where nothing beside the adapter tells it; `counted_on` says which.

    Raises:
        DatasetError: the data cannot be read, or a label is none of the adapter's.
        FingerprintMismatchError: the data are units of another encoder than the adapter's.
        ConfigurationError: recordings, and an adapter without a processor.
    """
    if isinstance(adapter, SpeechPromptForAudioClassification):
        model = adapter
    else:
        model = SpeechPromptForAudioClassification.from_pretrained(adapter)
    name, warnings = "given rows", list[str]()
    trained_on = training_report(model)
    if not isinstance(source, Dataset):
        name = os.fspath(source)
        made_by = recorded_unit_fingerprint(source)
        given = {
            "label_column": label_column,
            "speaker_column": speaker_column,
            "config_name": config_name,
            "revision": revision,
        }
        options, left_out = reading_options(name, given, trained_on)
        extraction = {"cache_dir": cache_dir, "progress": progress}
        held_out = carved_part(load_splits, split, name, trained_on, model, extraction, options)
        if held_out is not None:
            source = held_out
            warnings.append(f"the adapter was trained on this data set: only its {split} part is measured")
        else:
            source = load_rows(name, split=split, **options)
        warnings += left_out
        if "units" in source.column_names:
            check_unit_identity(made_by, model.config.unit_fingerprint, name)
    id2label: Any = model.config.id2label
    labels = tuple(id2label[index] for index in sorted(id2label))
    strangers = sorted(set(source["label"]) - set(labels))
    if strangers:
        raise DatasetError(
            f"label(s) {', '.join(map(repr, strangers[:5]))} of the data are none of the adapter's",
            hint=f"it knows {', '.join(labels[:20])}",
        )
    rows, skips = unit_rows(source, model.processor, cache_dir=cache_dir, progress=progress)
    rows, too_long = without_too_long(rows, model.lm.max_utterance_tokens)
    skips = [*skips, *too_long]
    warnings = [*why_few_are_left(len(rows), skips), *warnings]
    warnings += notes_on_known_rows(rows, model, trained_on)
    task = Task(name="evaluation", labels=labels)
    probabilities = class_probabilities(model, rows)
    return build_report(
        task=task,
        scores=classification_scores(task, rows, probabilities, seed=seed),
        baselines={"majority": _majority(rows, labels, trained_on)},
        method=model.config.method,
        trained_parameters=model.num_trained_parameters(),
        seconds=0.0,
        seed=seed,
        base=model.config.base_model_name_or_path,
        data={"source": name, "speakers_apart": None, "fingerprint": {"digest": rows_fingerprint(rows)}},
        num_rows={split: len(rows)},
        units=model.config.unit_fingerprint,
        skips=skips,
        warnings=warnings,
    )


def _majority(rows: Dataset, labels: Sequence[str], trained_on: dict[str, Any] | None) -> BaselineResult:
    """The most frequent label of the training rows, as far as the report beside the adapter tells it."""
    found: Any = trained_on
    for key in ("baselines", "majority", "label"):
        found = found.get(key) if isinstance(found, dict) else None
    if found in labels:
        return constant_baseline(found, rows)
    label = majority_baseline(rows, rows).label
    assert label is not None
    return constant_baseline(label, rows, "measured rows")
