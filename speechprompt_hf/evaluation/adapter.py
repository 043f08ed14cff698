"""A saved adapter on labelled rows: a report without training."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from ..core.errors import ConfigurationError, DatasetError
from ..core.files import read_json
from ..data.fingerprint import rows_fingerprint
from ..data.loading import load_rows, load_splits
from ..data.sources import SPLIT_NAMES
from ..data.unit_identity import check_unit_identity, recorded_unit_fingerprint
from ..data.unit_splits import unit_rows, without_too_long
from ..modeling.modeling_for_audio_classification import SpeechPromptForAudioClassification
from ..tasks import Task
from .baselines import majority_baseline
from .prediction import class_probabilities
from .report import build_report, classification_scores

__all__ = ["evaluate_adapter"]

_TRAINING_REPORT = "report.json"


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
    the parts are those of its training: `"test"` is what it held out.

    Args:
        adapter (`str | PathLike | SpeechPromptForAudioClassification`): folder, Hub id, or the model.
        source (`str | PathLike | Dataset`): see `load_rows`.
        split (`str`, defaults to `"test"`): the part, where the data set has parts.
        label_column (`str | Sequence[str]`, *optional*): see `load_splits`.
        speaker_column (`str`, *optional*): see `load_splits`.
        cache_dir (`str | PathLike`, *optional*): of units.
        config_name (`str`, *optional*): configuration of a Hub data set.
        revision (`str`, *optional*): revision of a Hub data set.
        seed (`int`, defaults to 0): of the interval.
        progress (`bool`, defaults to `True`): bars on stderr.

    Returns:
        `dict`: a report; its only baseline is the majority class, counted on these rows themselves.

    Raises:
        DatasetError: the data cannot be read, or a label is none of the adapter's.
        FingerprintMismatchError: the data are units of another encoder than the adapter's.
        ConfigurationError: recordings, and an adapter without a processor.
    """
    if isinstance(adapter, SpeechPromptForAudioClassification):
        model = adapter
    else:
        model = SpeechPromptForAudioClassification.from_pretrained(adapter)
    name, warnings = "given rows", []
    trained_on = _trained_on(model)
    if not isinstance(source, Dataset):
        name = os.fspath(source)
        made_by = recorded_unit_fingerprint(source)
        options: dict[str, Any] = {
            "label_column": label_column,
            "speaker_column": speaker_column,
            "config_name": config_name,
            "revision": revision,
        }
        held_out = None
        if trained_on is not None and split in SPLIT_NAMES:
            extraction = {"cache_dir": cache_dir, "progress": progress}
            held_out = _carved_part(split, name, trained_on, model, extraction, options)
        if held_out is not None:
            source = held_out
            warnings.append(f"the adapter was trained on this data set: only its {split} part is measured")
        else:
            source = load_rows(name, split=split, **options)
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
    rows, too_long = without_too_long(rows, model.lm.config.max_position_embeddings)
    skips = [*skips, *too_long]
    for part in ("train", "validation"):
        if trained_on is not None and rows_fingerprint(rows) == trained_on["data"]["fingerprint"].get(part):
            warnings.append(f"these are the {part} rows of the adapter's own training: the accuracy says little")
    task = Task(name="evaluation", labels=labels)
    probabilities = class_probabilities(model, rows)
    return build_report(
        task=task,
        scores=classification_scores(task, rows, probabilities, seed=seed),
        baselines={"majority": majority_baseline(rows, rows)},
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


def _trained_on(model: SpeechPromptForAudioClassification) -> dict[str, Any] | None:
    """The report of the adapter's training, if it lies beside the adapter on this machine."""
    path = Path(str(model.config._name_or_path or "")) / _TRAINING_REPORT
    if not path.is_file():
        return None
    report = read_json(path)
    data = report.get("data") if isinstance(report, dict) else None
    return report if isinstance(data, dict) and isinstance(data.get("fingerprint"), dict) else None


def _carved_part(
    split: str,
    source: str,
    trained_on: dict[str, Any],
    model: SpeechPromptForAudioClassification,
    extraction: dict[str, Any],
    options: dict[str, Any],
) -> Dataset | None:
    """The part as training took it out of this data set itself; `None` if it was another one, or has parts."""
    try:
        splits = load_splits(source, seed=trained_on.get("seed", 0), **options)
        rows, _ = unit_rows(splits.test, model.processor, **extraction)
    except (DatasetError, ConfigurationError):
        return None
    was_carved = any(note.startswith("test was taken") for note in splits.notes)
    is_same = rows_fingerprint(rows) == trained_on["data"]["fingerprint"].get("test")
    return dict(splits.items())[split] if was_carved and is_same else None
