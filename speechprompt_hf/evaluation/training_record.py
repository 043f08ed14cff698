"""What lies beside an adapter and says how it was trained: on which rows, and how they were read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import Dataset

from ..core.errors import ConfigurationError, DatasetError
from ..core.files import read_json
from ..data.fingerprint import rows_fingerprint
from ..data.loading import Splits
from ..data.sequence_rows import without_long_texts
from ..data.sources import SPLIT_NAMES, read_source
from ..data.trained_rows import TRAINED_ROWS_FILE, known_rows, read_trained_rows
from ..data.unit_splits import unit_rows, without_too_long
from ..modeling.modeling_for_sequence_generation import SpeechPromptForSequenceGeneration
from ..modeling.modeling_speechprompt import SpeechPromptPreTrainedModel

__all__ = ["carved_part", "notes_on_known_rows", "reading_options", "training_report"]

_TRAINING_REPORT = "report.json"


def _beside(model: SpeechPromptPreTrainedModel, file_name: str) -> Path | None:
    """A file in the folder that the model was loaded from; `None` where it is not there."""
    folder = model.config._name_or_path
    path = Path(str(folder)) / file_name
    return path if folder and path.is_file() else None


def training_report(model: SpeechPromptPreTrainedModel) -> dict[str, Any] | None:
    """The report of the adapter's training, if it lies beside the adapter on this machine.

    Args:
        model (`SpeechPromptPreTrainedModel`): opened from the adapter.
    """
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


def reading_options(
    source: str, given: dict[str, Any], trained_on: dict[str, Any] | None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """How to read a data set: as asked, else as in the training; and what reading it leaves out.

    Args:
        source (`str`): the data set.
        given (`dict`): names of columns (`…_column`), `config_name` and `revision`; `None` where nothing was asked.
        trained_on (`dict`, *optional*): from `training_report`.

    Returns:
        the completed options, and notes on files that are left out.
    """
    recorded = _recorded_split(trained_on)
    options = dict(given)
    if trained_on is not None and trained_on["data"].get("source") == source:
        options |= {name: recorded.get(name) for name in ("config_name", "revision") if given[name] is None}
    tables, _, left_out = read_source(source, config_name=options["config_name"], revision=options["revision"])
    columns = set.intersection(*(set(table.column_names) for table in tables.values()))
    for name in (name for name in given if name.endswith("_column")):
        value = recorded.get(name)
        wanted = {value} - {""} if isinstance(value, str) else set(value or ())
        if given[name] is None and wanted <= columns:
            options[name] = value
    return options, left_out


def carved_part(
    load: Callable[..., Splits],
    split: str,
    source: str,
    trained_on: dict[str, Any] | None,
    model: SpeechPromptPreTrainedModel,
    extraction: dict[str, Any],
    options: dict[str, Any],
) -> Dataset | None:
    """The part as training took it out of this data set itself; `None` if it was another one, or has all parts.

    Args:
        load (`Callable`): `load_splits`, or another one with its arguments.
        split (`str`): the wanted part.
        source (`str`): the data set.
        trained_on (`dict`, *optional*): from `training_report`.
        model (`SpeechPromptPreTrainedModel`): the adapter.
        extraction (`dict`): arguments of `unit_rows`.
        options (`dict`): from `reading_options`.
    """
    if trained_on is None or split not in SPLIT_NAMES:
        return None
    recorded = _recorded_split(trained_on)
    shape = {name: recorded[name] for name in ("validation_fraction", "test_fraction", "seed") if name in recorded}
    max_tokens = recorded.get("max_utterance_tokens", model.lm.max_utterance_tokens)
    try:
        splits = load(source, **shape, **options)
        longest = recorded.get("max_text_tokens")
        parts = {name: _with_short_texts(rows, name, model, longest) for name, rows in splits.items()}
        for name in splits.carved:
            rows, _ = unit_rows(parts[name], model.processor, **extraction)
            rows, _ = without_too_long(rows, max_tokens)
            if rows_fingerprint(rows) != trained_on["data"]["fingerprint"].get(name):
                return None
    except (DatasetError, ConfigurationError):
        return None
    return parts[split] if splits.carved else None


def _with_short_texts(rows: Dataset, name: str, model: SpeechPromptPreTrainedModel, max_tokens: int | None) -> Dataset:
    """The texts that training took; test rows are measured as they are."""
    if max_tokens is None or name == "test" or not isinstance(model, SpeechPromptForSequenceGeneration):
        return rows
    return without_long_texts(rows, model.output_tokenizer, max_tokens, name)[0]


def notes_on_known_rows(
    rows: Dataset, model: SpeechPromptPreTrainedModel, trained_on: dict[str, Any] | None
) -> list[str]:
    """What a reader must know of rows that the adapter has seen in its training.

    Args:
        rows (`Dataset`): with units.
        model (`SpeechPromptPreTrainedModel`): the adapter.
        trained_on (`dict`, *optional*): from `training_report`.
    """
    path = _beside(model, TRAINED_ROWS_FILE)
    known = {} if path is None else {found.part: found for found in known_rows(rows, read_trained_rows(path))}
    notes = []
    for part in ("train", "validation"):
        recorded = (trained_on or {"data": {"fingerprint": {}}})["data"]["fingerprint"].get(part)
        found = known.get(part)
        if (found and found.number == len(rows)) or (recorded is not None and rows_fingerprint(rows) == recorded):
            notes.append(f"these are the {part} rows of the adapter's own training: what is measured says little")
        elif found:
            notes.append(
                f"{found.number} of {len(rows)} rows have the same {found.what} as {part} rows of the adapter's own "
                "training: what is measured on them says little"
            )
    return notes
