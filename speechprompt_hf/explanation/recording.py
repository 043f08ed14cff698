"""Why one recording was taken for a label: its units, when they were heard, and how much each speaks for the label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.audio_io import check_waveform, load_waveform
from ..core.errors import AdapterError, LabelError, UnitError
from ..core.units import UnitSequence
from ..data.lengths import TOO_LONG_HINT, max_utterance_tokens, why_too_long
from ..modeling.speech_purpose import refuse_speech
from ..processors.prosody_units import frame_centres
from .saliency import DEFAULT_METHOD, check_method, unit_saliency
from .scoring import UnitScorer

__all__ = ["RecordingExplanation", "check_is_classifier", "explain_recording", "recording_waveform", "unit_times"]

_MOST_NAMED = 20


@dataclass(frozen=True, eq=False)
class RecordingExplanation:
    """What a model heard in one recording, and how much each part of it speaks for a label.

    Attributes:
        label (`str`): the label that is explained.
        probabilities (`dict[str, float]`): of all labels, the most probable first.
        units (`NDArray[int64]` of shape `(T,)`): as the model reads them, with equal neighbours merged.
        starts (`NDArray[float64]` of shape `(T,)`): when each unit begins, in seconds.
        ends (`NDArray[float64]` of shape `(T,)`): when it ends; a mark of prosody between units has no duration.
        saliency (`NDArray[float32]` of shape `(T,)`): how much each unit speaks for the label (above 0) or against it
            (below 0); of what, the method says, see `unit_saliency`.
        method (`str`): one of `METHODS`.
    """

    label: str
    probabilities: dict[str, float]
    units: NDArray[np.int64]
    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    saliency: NDArray[np.float32]
    method: str

    @property
    def probability(self) -> float:
        """Of the explained label."""
        return self.probabilities[self.label]

    def most_salient(self, number: int) -> NDArray[np.int64]:
        """The positions of the units that speak most for the label, `(min(number, T),)`, the strongest first."""
        return np.argsort(-self.saliency, kind="stable")[:number]


def explain_recording(
    model: Any, recording: Any, *, label: str | None = None, method: str = DEFAULT_METHOD, seed: int = 0
) -> RecordingExplanation:
    """Explain a label of one recording.

    Args:
        model (`SpeechPromptForAudioClassification`): with a processor; put into evaluation mode.
        recording: a path, bytes, `{"array", "sampling_rate"}`, or an array of shape `(S,)`, float32, at the
            processor's rate.
        label (`str`, *optional*): the label to explain; the most probable one by default.
        method (`str`, defaults to `"leave-one-out"`): one of `METHODS`, see `unit_saliency`.
        seed (`int`, defaults to 0): of the methods that draw.

    Returns:
        `RecordingExplanation`.

    Raises:
        AdapterError: the model says texts, answers with speech, or has no processor.
        AudioError: the recording cannot be used.
        ConfigurationError: there is no such method.
        LabelError: the model has no such label.
        MissingDependencyError: captum is not installed.
        UnitError: the recording is longer than the model reads at once.

    Example:
        ```python
        explanation = explain_recording(model, "yes.flac")
        draw_explanation(explanation, waveform, 16000).savefig("yes.png")
        ```
    """
    check_is_classifier(model)
    check_method(method)
    class_index = None if label is None else _class_of(model, label)
    waveform = recording_waveform(model, recording)
    processor = model.processor
    rate = processor.feature_extractor.sampling_rate
    processor.to(model.device)
    (sequence,) = processor.encode_units([waveform], sampling_rate=rate)
    units = sequence.units.tolist()
    too_long = why_too_long(len(units), max_utterance_tokens(model.lm, 1))
    if too_long:
        raise UnitError(f"{_name_of(recording)} has {too_long}", hint=TOO_LONG_HINT)
    scorer = UnitScorer(model, units)
    whole = scorer.logits(torch.ones(1, len(units), dtype=torch.bool))[0].softmax(-1).tolist()
    names = [model.config.id2label[index] for index in range(len(whole))]
    explained = int(np.argmax(whole)) if class_index is None else class_index
    starts, ends = unit_times(sequence, len(waveform), processor)
    return RecordingExplanation(
        label=names[explained],
        probabilities=dict(sorted(zip(names, whole, strict=True), key=lambda pair: -pair[1])),
        units=sequence.units,
        starts=starts,
        ends=ends,
        saliency=unit_saliency(scorer, explained, method, seed=seed),
        method=method,
    )


def recording_waveform(model: Any, recording: Any) -> NDArray[np.float32]:
    """The samples of a recording as the model's encoder gets them.

    Args:
        model (`SpeechPromptForAudioClassification`): with a processor.
        recording: as for `explain_recording`.

    Returns:
        `NDArray[float32]` of shape `(S,)`, at the processor's rate.

    Raises:
        AdapterError: the model has no processor.
        AudioError: the recording cannot be used.
    """
    processor = model.processor
    if processor is None:
        raise AdapterError(
            "the model has no processor that makes units of recordings",
            hint="save the adapter again on a base that has a processor, or model.attach_processor(…)",
        )
    rate = processor.feature_extractor.sampling_rate
    name = _name_of(recording)
    waveform = load_waveform(recording, sampling_rate=rate, target_rate=rate, name=name)
    check_waveform(waveform, name=name, min_samples=processor.feature_extractor.min_samples)
    return waveform


def unit_times(
    sequence: UnitSequence, num_samples: int, processor: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """When each unit was heard.

    A frame lasts one hop around the middle of the samples that its encoder's convolutions see.

    Args:
        sequence (`UnitSequence`): of the whole recording, T units.
        num_samples (`int`): of the recording, at the processor's rate.
        processor (`SpeechUnitProcessor`): that made the units.

    Returns:
        `tuple[NDArray[float64], NDArray[float64]]` of shape `(T,)`: starts and ends in seconds, within the recording.
    """
    encoder = processor.unit_encoder
    geometry, rate = encoder.dense_model.geometry, encoder.description.sampling_rate
    centres = frame_centres(num_samples, geometry, encoder.description.chunk_samples)
    half = geometry.hop_samples / 2
    last = np.cumsum(sequence.durations) - 1
    # A mark of prosody lasts for no frame: it stands where the unit before it ends.
    has_frames = sequence.durations > 0
    ends = np.where(last >= 0, centres[last] + half, 0.0)
    starts = np.where(has_frames, centres[np.maximum(last - np.maximum(sequence.durations, 1) + 1, 0)] - half, ends)
    return np.clip(starts, 0, num_samples) / rate, np.clip(ends, 0, num_samples) / rate


def check_is_classifier(model: Any) -> None:
    """Refuse a model that has no labels to explain.

    Raises:
        AdapterError: it says texts, or answers with speech.
    """
    refuse_speech(model, "explanations are of labels")
    if getattr(model, "says_sequences", False):
        raise AdapterError(
            "this adapter says texts, and explanations are of labels",
            hint="explain an adapter that was trained on labels (SpeechPromptForAudioClassification)",
        )


def _class_of(model: Any, label: str) -> int:
    names: Sequence[str] = [model.config.id2label[index] for index in range(model.config.num_labels)]
    if label not in names:
        known = ", ".join(names[:_MOST_NAMED]) + (", …" if len(names) > _MOST_NAMED else "")
        raise LabelError(f"{label!r} is no label of this model", hint=f"its labels are {known}")
    return names.index(label)


def _name_of(recording: Any) -> str:
    return str(recording) if isinstance(recording, str) or hasattr(recording, "__fspath__") else "the recording"
