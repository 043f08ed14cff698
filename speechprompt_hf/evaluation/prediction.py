"""Running a model: over rows of units, over recordings one by one, and over files with rows of units."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray

from ..core.audio_io import check_waveform, load_waveform
from ..core.errors import AdapterError, SpeechPromptError, UnitError
from ..core.vocabulary import UnitVocabulary
from ..data.collators import UnitCollator
from ..data.lengths import TOO_LONG_HINT, max_utterance_tokens, why_too_long
from ..data.unit_identity import check_unit_identity, merged_row, recorded_unit_fingerprint
from ..data.unit_tables import UnitRow, read_unit_table
from ..modeling.speech_purpose import refuse_speech
from .saying import say, say_rows

__all__ = ["FilePrediction", "class_probabilities", "predict_files", "predict_units"]

# Rows of a table that are classified before their answers are given.
_ROWS_AT_ONCE = 4096
_INSTEAD = "predictions are labels and texts"


@dataclass(frozen=True)
class FilePrediction:
    """What one file was taken for.

    Attributes:
        file (`str`): as it was given.
        label (`str | None`): the most probable class; `None` where the file could not be used.
        probability (`float | None`): of that class.
        error (`str | None`): why the file could not be used.
        row (`int | None`): of a table of units, counted from 0.
        item (`str | None`): what the table calls that row.
        text (`str | None`): what was said, of a model that says sequences.
        score (`float | None`): mean log-probability of its tokens.
    """

    file: str
    label: str | None = None
    probability: float | None = None
    error: str | None = None
    row: int | None = None
    item: str | None = None
    text: str | None = None
    score: float | None = None


@torch.no_grad()
def class_probabilities(
    model: Any, rows: Dataset, vocabulary: UnitVocabulary | None = None, *, batch_size: int = 64
) -> NDArray[np.float64]:
    """Class probabilities of rows of units.

    Args:
        model (`SpeechPromptForAudioClassification`): put into evaluation mode.
        rows (`Dataset`): R rows with `units`.
        vocabulary (`UnitVocabulary`, *optional*): the model's by default.
        batch_size (`int`, defaults to 64): rows of a batch; rows of similar lengths are put together.

    Returns:
        `NDArray[float64]` of shape `(R, M)`: rows sum to 1.
    """
    vocabulary = vocabulary or model.vocabulary
    collator = UnitCollator(vocabulary, model.lm.max_utterance_tokens)
    model.eval()
    units = list(rows["units"])
    order = sorted(range(len(units)), key=lambda row: len(units[row]))
    scores = np.zeros((len(units), model.config.num_labels))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = collator([{"units": units[row]} for row in chosen])
        logits = model(**{name: tensor.to(model.device) for name, tensor in batch.items()}).logits
        scores[chosen] = logits.double().softmax(-1).cpu().numpy()
    return scores


def predict_files(
    model: Any, files: Iterable[str | os.PathLike[str]], processor: Any = None, *, num_beams: int = 1
) -> Iterator[FilePrediction]:
    """Answer files one after the other, with a label or a text; a bad file does not stop the others.

    Args:
        model (`SpeechPromptForAudioClassification | SpeechPromptForSequenceGeneration`): put into evaluation mode.
        files (`Iterable[str | PathLike]`): recordings of any format that libsndfile reads, at any rate.
        processor (`SpeechUnitProcessor`, *optional*): the model's own by default.
        num_beams (`int`, defaults to 1): of texts.

    Yields:
        `FilePrediction`: one a file, in order.

    Raises:
        AdapterError: the model has no processor, or answers with speech.
    """
    refuse_speech(model, _INSTEAD)
    processor = processor or model.processor
    if processor is None:
        raise AdapterError(
            f"{model.config._name_or_path or 'the model'} has no processor that makes units of recordings",
            hint="its folder needs processor_config.json and the files beside it: save the adapter again on a base "
            "that has a processor; in Python a processor can be passed. Rows of units (.parquet, .jsonl, .csv) need "
            "none",
        )
    model.eval()
    for file in files:
        name = os.fspath(file)
        try:
            yield _predict_file(model, name, processor, num_beams)
        except SpeechPromptError as error:
            said = str(error)
            yield FilePrediction(name, error=said if name in said else f"{name}: {said}")


@torch.no_grad()
def _predict_file(model: Any, name: str, processor: Any, num_beams: int) -> FilePrediction:
    rate = processor.feature_extractor.sampling_rate
    waveform = load_waveform(name, target_rate=rate, name=name)
    check_waveform(waveform, name=name, min_samples=processor.feature_extractor.min_samples)
    batch = processor([waveform], sampling_rate=rate, return_tensors="pt")
    too_long = why_too_long(batch["input_ids"].shape[1] - 2, _max_tokens(model))
    if too_long:
        raise UnitError(f"{name} has {too_long}", hint=TOO_LONG_HINT)
    inputs = {key: batch[key].to(model.device) for key in ("input_ids", "attention_mask")}
    if model.says_sequences:
        (said,) = say(model, **inputs, num_beams=num_beams)
        return FilePrediction(name, text=said.text, score=said.score)
    logits = model(**inputs).logits
    probabilities = logits[0].double().softmax(-1)
    best = int(probabilities.argmax())
    return FilePrediction(name, model.config.id2label[best], float(probabilities[best]))


def predict_units(
    model: Any, files: Iterable[str | os.PathLike[str]], *, num_beams: int = 1
) -> Iterator[FilePrediction]:
    """Answer the rows of files of units; no processor is needed, and a bad row does not stop the others.

    Args:
        model (`SpeechPromptForAudioClassification | SpeechPromptForSequenceGeneration`): put into evaluation mode.
        files (`Iterable[str | PathLike]`): Parquet, JSON lines or CSV with a column `units`; see `read_unit_table`.
        num_beams (`int`, defaults to 1): of texts.

    Yields:
        `FilePrediction`: one a row, in order, with `row` and, where a column names it, `item`; one without `row` for a
        file that cannot be used: it has no such column, or units of another encoder.

    Raises:
        AdapterError: the model answers with speech.
    """
    refuse_speech(model, _INSTEAD)
    for file in files:
        name = os.fspath(file)
        try:
            rows = read_unit_table(name)
            check_unit_identity(recorded_unit_fingerprint(name), model.config.unit_fingerprint, name)
        except SpeechPromptError as error:
            yield FilePrediction(name, error=str(error))
            continue
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            yield from _predict_rows(model, name, rows[start : start + _ROWS_AT_ONCE], num_beams)


def _predict_rows(model: Any, name: str, rows: Sequence[UnitRow], num_beams: int) -> Iterator[FilePrediction]:
    vocabulary = model.vocabulary
    units: dict[int, list[int]] = {}
    errors: dict[int, str] = {}
    for row in rows:
        try:
            units[row.number] = _checked_units(row, name, vocabulary, _max_tokens(model))
        except UnitError as error:
            errors[row.number] = str(error)
    answers = dict(zip(units, _answers(model, list(units.values()), vocabulary, num_beams), strict=True))
    for number, item, _ in rows:
        if number in errors:
            yield FilePrediction(name, error=errors[number], row=number, item=item)
        else:
            yield FilePrediction(name, row=number, item=item, **answers[number])


def _answers(
    model: Any, units: Sequence[Sequence[int]], vocabulary: UnitVocabulary, num_beams: int
) -> list[dict[str, Any]]:
    """What is said of each row, as fields of `FilePrediction`."""
    rows = Dataset.from_dict({"units": list(units)})
    if model.says_sequences:
        return [said._asdict() for said in say_rows(model, rows, vocabulary, num_beams=num_beams)]
    scores = class_probabilities(model, rows, vocabulary)
    best = scores.argmax(-1).tolist()
    return [
        {"label": model.config.id2label[index], "probability": float(row[index])}
        for index, row in zip(best, scores, strict=True)
    ]


def _max_tokens(model: Any) -> int:
    """Of an utterance that any answer of the model fits behind."""
    return max_utterance_tokens(model.lm, model.config.max_output_tokens if model.says_sequences else 1)


def _checked_units(row: UnitRow, name: str, vocabulary: UnitVocabulary, max_tokens: int) -> list[int]:
    what = f"row {row.number} of {name}" + ("" if row.item is None else f" ({row.item[:100]})")
    units = [] if row.units is None else merged_row(row.units, what)
    if not units:
        raise UnitError(f"{what} has no units", hint="leave it out")
    try:
        vocabulary.input_ids(units)
    except UnitError as error:
        raise UnitError(f"{what}: {Exception.__str__(error)}", hint=error.hint) from error
    too_long = why_too_long(len(units), max_tokens)
    if too_long:
        raise UnitError(f"{what} has {too_long}", hint=TOO_LONG_HINT)
    return units
