"""Running a classifier: over rows of units, and over files one by one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray

from ..core.audio_io import check_waveform, load_waveform
from ..core.errors import AdapterError, SpeechPromptError
from ..core.vocabulary import UnitVocabulary
from ..data.collators import UnitCollator

__all__ = ["FilePrediction", "class_probabilities", "predict_files"]


@dataclass(frozen=True)
class FilePrediction:
    """What one file was taken for.

    Attributes:
        file (`str`): as it was given.
        label (`str | None`): the most probable class; `None` where the file could not be used.
        probability (`float | None`): of that class.
        error (`str | None`): why the file could not be used.
    """

    file: str
    label: str | None = None
    probability: float | None = None
    error: str | None = None


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
    model: Any, files: Iterable[str | os.PathLike[str]], processor: Any = None
) -> Iterator[FilePrediction]:
    """Classify files one after the other; a bad file does not stop the others.

    Args:
        model (`SpeechPromptForAudioClassification`): put into evaluation mode.
        files (`Iterable[str | PathLike]`): recordings of any format that libsndfile reads, at any rate.
        processor (`SpeechUnitProcessor`, *optional*): the model's own by default.

    Yields:
        `FilePrediction`: one a file, in order.

    Raises:
        AdapterError: the model has no processor.
    """
    processor = processor or model.processor
    if processor is None:
        raise AdapterError(
            "the model has no processor that makes units of recordings",
            hint="its folder needs processor_config.json and the files beside it: save the adapter again on a base "
            "that has a processor; in Python a processor can be passed. Rows of units go to speechprompt evaluate",
        )
    model.eval()
    for file in files:
        name = os.fspath(file)
        try:
            yield _predict_file(model, name, processor)
        except SpeechPromptError as error:
            yield FilePrediction(name, error=str(error))


@torch.no_grad()
def _predict_file(model: Any, name: str, processor: Any) -> FilePrediction:
    rate = processor.feature_extractor.sampling_rate
    waveform = load_waveform(name, target_rate=rate, name=name)
    check_waveform(waveform, name=name, min_samples=processor.feature_extractor.min_samples)
    batch = processor([waveform], sampling_rate=rate, return_tensors="pt")
    logits = model(**{key: batch[key].to(model.device) for key in ("input_ids", "attention_mask")}).logits
    probabilities = logits[0].double().softmax(-1)
    best = int(probabilities.argmax())
    return FilePrediction(name, model.config.id2label[best], float(probabilities[best]))
