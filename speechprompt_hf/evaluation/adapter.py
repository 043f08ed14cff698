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
from ..data.sources import SPLIT_NAMES, read_source
from ..data.trained_rows import TRAINED_ROWS_FILE, known_rows, read_trained_rows
from ..data.unit_identity import check_unit_identity, recorded_unit_fingerprint
from ..data.unit_splits import unit_rows, why_few_are_left, without_too_long
from ..modeling.modeling_for_audio_classification import SpeechPromptForAudioClassification
from ..tasks import Task
from .baselines import BaselineResult, constant_baseline, majority_baseline
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
    trained_on = _trained_on(model)
    if not isinstance(source, Dataset):
        name = os.fspath(source)
        made_by = recorded_unit_fingerprint(source)
        given = {
            "label_column": label_column,
            "speaker_column": speaker_column,
            "config_name": config_name,
            "revision": revision,
        }
        options, left_out = _options(name, given, trained_on)
        extraction = {"cache_dir": cache_dir, "progress": progress}
        held_out = _carved_part(split, name, trained_on, model, extraction, options)
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
    warnings += _known_rows(rows, model, trained_on)
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


def _beside(model: SpeechPromptForAudioClassification, file_name: str) -> Path | None:
    """A file in the folder that the model was loaded from; `None` where it is not there."""
    folder = model.config._name_or_path
    path = Path(str(folder)) / file_name
    return path if folder and path.is_file() else None


def _trained_on(model: SpeechPromptForAudioClassification) -> dict[str, Any] | None:
    """The report of the adapter's training, if it lies beside the adapter on this machine."""
    path = _beside(model, _TRAINING_REPORT)
    if path is None:
        return None
    report = read_json(path)
    data = report.get("data") if isinstance(report, dict) else None
    return report if isinstance(data, dict) and isinstance(data.get("fingerprint"), dict) else None


def _recorded_split(trained_on: dict[str, Any] | None) -> dict[str, Any]:
    """How the parts of the training were made; reports of earlier versions tell the seed alone."""
    if trained_on is None:
        return {}
    return {"seed": trained_on.get("seed", 0), **(trained_on["data"].get("split") or {})}


def _options(
    source: str, given: dict[str, Any], trained_on: dict[str, Any] | None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """How to read a data set: as asked, else as in the training; and what reading it leaves out."""
    recorded = _recorded_split(trained_on)
    options = dict(given)
    if trained_on is not None and trained_on["data"].get("source") == source:
        options |= {name: recorded.get(name) for name in ("config_name", "revision") if given[name] is None}
    tables, _, left_out = read_source(source, config_name=options["config_name"], revision=options["revision"])
    columns = set.intersection(*(set(table.column_names) for table in tables.values()))
    for name in ("label_column", "speaker_column"):
        value = recorded.get(name)
        wanted = {value} - {""} if isinstance(value, str) else set(value or ())
        if given[name] is None and wanted <= columns:
            options[name] = value
    return options, left_out


def _carved_part(
    split: str,
    source: str,
    trained_on: dict[str, Any] | None,
    model: SpeechPromptForAudioClassification,
    extraction: dict[str, Any],
    options: dict[str, Any],
) -> Dataset | None:
    """The part as training took it out of this data set itself; `None` if it was another one, or has all parts."""
    if trained_on is None or split not in SPLIT_NAMES:
        return None
    recorded = _recorded_split(trained_on)
    shape = {name: recorded[name] for name in ("validation_fraction", "test_fraction", "seed") if name in recorded}
    max_tokens = model.lm.max_utterance_tokens
    try:
        splits = load_splits(source, **shape, **options)
        parts = dict(splits.items())
        for name in splits.carved:
            rows, _ = unit_rows(parts[name], model.processor, **extraction)
            rows, _ = without_too_long(rows, max_tokens)
            if rows_fingerprint(rows) != trained_on["data"]["fingerprint"].get(name):
                return None
    except (DatasetError, ConfigurationError):
        return None
    return parts[split] if splits.carved else None


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


def _known_rows(
    rows: Dataset, model: SpeechPromptForAudioClassification, trained_on: dict[str, Any] | None
) -> list[str]:
    """What a reader must know of rows that the adapter has seen in its training."""
    path = _beside(model, TRAINED_ROWS_FILE)
    known = {} if path is None else {found.part: found for found in known_rows(rows, read_trained_rows(path))}
    notes = []
    for part in ("train", "validation"):
        recorded = (trained_on or {"data": {"fingerprint": {}}})["data"]["fingerprint"].get(part)
        found = known.get(part)
        if (found and found.number == len(rows)) or (recorded is not None and rows_fingerprint(rows) == recorded):
            notes.append(f"these are the {part} rows of the adapter's own training: the accuracy says little")
        elif found:
            notes.append(
                f"{found.number} of {len(rows)} rows have the same {found.what} as {part} rows of the adapter's own "
                "training: on them the accuracy says little"
            )
    return notes
