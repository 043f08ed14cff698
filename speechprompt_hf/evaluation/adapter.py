"""A saved adapter on labelled rows: a report without training."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from datasets import Dataset

from ..core.errors import DatasetError
from ..data.fingerprint import rows_fingerprint
from ..data.loading import load_rows
from ..data.unit_identity import check_unit_identity, recorded_unit_fingerprint
from ..data.unit_splits import unit_rows
from ..modeling.modeling_for_audio_classification import SpeechPromptForAudioClassification
from ..tasks import Task
from .baselines import majority_baseline
from .prediction import class_probabilities
from .report import build_report, classification_scores

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
    name = "given rows"
    if not isinstance(source, Dataset):
        name = os.fspath(source)
        made_by = recorded_unit_fingerprint(source)
        source = load_rows(
            source,
            split=split,
            label_column=label_column,
            speaker_column=speaker_column,
            config_name=config_name,
            revision=revision,
        )
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
        warnings=[],
    )
