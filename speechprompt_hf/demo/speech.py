"""Answers that are speech: as `speechprompt generate` makes them, never longer than a page allows."""

from __future__ import annotations

import io
from collections import OrderedDict
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.audio_io import check_waveform
from ..core.units import UnitSequence
from ..generation.answers import (
    UnitAnswer,
    heard_part,
    heard_seconds,
    known_durations,
    seed_of,
    sound_of,
    unit_answers,
)
from ..generation.output_folder import write_wave
from ..generation.settings import GenerationSettings
from .opening import DemoTask

__all__ = ["SpeechAnswer", "SpeechAnswers"]

# Answers that are kept: a picture is asked for a moment after its answer, examples are asked for again.
_MOST_KEPT = 8
_USUAL_FRAME_RATE = 50.0


@dataclass(frozen=True, eq=False)
class SpeechAnswer:
    """What was said after a recording.

    Attributes:
        wav (`bytes`): the sound as a wav file (16 bit) at the vocoder's rate, as loud as the vocoder made it.
        waveform (`NDArray[float32]` of shape `(S,)`): the same samples before they were rounded.
        sampling_rate (`int`): in Hz.
        units (`NDArray[int64]` of shape `(U,)`): what is said, merged; the first `own_units` are the recording's own.
        ends (`NDArray[float64]` of shape `(U,)`): when each unit ends, in seconds.
        own_units (`int`): above 0 where the recording is continued.
        is_cut (`bool`): whether more was to be said than the page allows.
        heard (`NDArray[float32]` of shape `(T,)`): the part of the recording that was heard, at the processor's rate.
        heard_units (`UnitSequence`): its units.
    """

    wav: bytes
    waveform: NDArray[np.float32]
    sampling_rate: int
    units: NDArray[np.int64]
    ends: NDArray[np.float64]
    own_units: int
    is_cut: bool
    heard: NDArray[np.float32]
    heard_units: UnitSequence

    @property
    def starts(self) -> NDArray[np.float64]:
        """When each unit begins, in seconds, `(U,)`."""
        return np.concatenate([np.zeros(min(1, len(self.ends))), self.ends[:-1]])

    @property
    def seconds(self) -> float:
        """How long it sounds."""
        return len(self.waveform) / self.sampling_rate


class SpeechAnswers:
    """Speech for recordings; the last few are kept, and equal recordings get equal answers.

    Args:
        max_seconds (`float`): of an answer; what would last longer is cut.
    """

    def __init__(self, max_seconds: float) -> None:
        self._max_seconds = max_seconds
        self._kept: OrderedDict[tuple[str, str], SpeechAnswer] = OrderedDict()
        # Draws begin from a seed, which another thread's draws would move on.
        self._lock = Lock()

    def answer(self, task: DemoTask, waveform: NDArray[np.float32], *, content: str, name: str) -> SpeechAnswer:
        """Speech after a recording.

        Args:
            task (`DemoTask`): whose model has a vocoder.
            waveform (`NDArray[float32]` of shape `(S,)`): at the processor's rate.
            content (`str`): digest of the recording, on which draws depend.
            name (`str`): of the recording, for messages.

        Raises:
            SpeechPromptError: the recording cannot be used, nothing is said, or the vocoder cannot say it.
        """
        with self._lock:
            key = (task.name, content)
            if key not in self._kept:
                self._kept[key] = self._made(task.model, waveform, content, name)
                while len(self._kept) > _MOST_KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]

    def _made(self, model: Any, waveform: NDArray[np.float32], content: str, name: str) -> SpeechAnswer:
        processor, vocoder = model.processor, model.vocoder
        extractor = processor.feature_extractor
        frame_rate = _frame_rate(model)
        most_frames = max(1, int(self._max_seconds * frame_rate))
        settings = GenerationSettings(
            # A unit lasts at least a frame.
            max_units=min(model.max_answer_tokens, most_frames),
            speaker=0 if getattr(vocoder.config, "num_speakers", 0) else None,
        )
        heard = heard_part(waveform, extractor.sampling_rate, heard_seconds(model.config, settings))
        check_waveform(heard, name=name, min_samples=extractor.min_samples)
        (sequence,) = processor.encode_units([heard], sampling_rate=extractor.sampling_rate)
        (said,) = unit_answers(model, processor, sequence, settings, seed=seed_of(settings, content), name=name)
        answer, is_cut = _within(said, vocoder, most_frames)
        assert answer.durations is not None
        sound = sound_of(vocoder, answer, settings)
        samples = sound.row(0).float().cpu().numpy()
        stream = io.BytesIO()
        write_wave(stream, samples, sound.sampling_rate, name=name)
        return SpeechAnswer(
            wav=stream.getvalue(),
            waveform=samples,
            sampling_rate=sound.sampling_rate,
            units=np.asarray(answer.units, dtype=np.int64),
            ends=np.cumsum(answer.durations, dtype=np.float64) / frame_rate,
            own_units=answer.own_units,
            is_cut=is_cut,
            heard=heard,
            heard_units=sequence,
        )


def _frame_rate(model: Any) -> float:
    target = model.config.target_units or {}
    return float(getattr(model.vocoder, "frame_rate", None) or target.get("frame_rate") or _USUAL_FRAME_RATE)


def _within(answer: UnitAnswer, vocoder: Any, most_frames: int) -> tuple[UnitAnswer, bool]:
    """An answer with all durations known and no more frames than that, and whether it had more."""
    durations = known_durations(vocoder, replace(answer, durations=answer.durations or []))
    frames = np.asarray(durations, dtype=np.int64)
    ends = np.minimum(np.cumsum(frames), most_frames)
    kept = np.diff(ends, prepend=0)
    number = int((kept > 0).sum())
    cut = UnitAnswer(answer.units[:number], kept[:number].tolist(), min(answer.own_units, number))
    return cut, int(frames.sum()) > most_frames
