"""What a page says of a recording: probabilities, a text, speech, a picture, or one sentence why there is none.

Nothing here knows of the page: an answer is a value, and every failure is one, too. A further kind of answer is a
further class beside `LabelAnswer`, `TextAnswer` and `SpeechAnswer`, made in `_answers`, and a component in `page.py`.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.errors import ConfigurationError, MissingDependencyError, SpeechPromptError, UnitError
from ..core.units import UnitSequence
from ..data.extraction import content_hash
from ..data.lengths import TOO_LONG_HINT, max_utterance_tokens, why_too_long
from ..decoding.streaming import stream_text
from ..modeling.saved_generation import PLAIN_SEARCH
from .opening import DemoTask
from .pictures import UnitsInTime, draw_speech, draw_units
from .speech import SpeechAnswer, SpeechAnswers
from .uploads import UploadLimits, read_upload

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Answer", "DemoAnswers", "LabelAnswer", "Picture", "Refusal", "SpeechAnswer", "TextAnswer"]

_log = logging.getLogger(__name__)
_UNEXPECTED = "Something failed that should not. The log of the program that shows this page says what."
_DOTS_PER_INCH = 110
_WARM_UP_SAMPLES = 4_800
# One pass a unit, at most 96; Shapley values take 25 times as long, which nobody waits for.
_METHOD = "leave-one-out"


@dataclass(frozen=True)
class LabelAnswer:
    """Labels and how probable they are.

    Attributes:
        probabilities (`dict[str, float]`): of every label, falling; they sum to 1.
    """

    probabilities: dict[str, float]

    @property
    def label(self) -> str:
        """The most probable label."""
        return next(iter(self.probabilities))


@dataclass(frozen=True)
class TextAnswer:
    """What was said.

    Attributes:
        text (`str`): as far as it is known.
        is_whole (`bool`): whether more may come.
    """

    text: str
    is_whole: bool


@dataclass(frozen=True)
class Refusal:
    """Why there is no answer.

    Attributes:
        sentence (`str`): for the visitor.
    """

    sentence: str


@dataclass(frozen=True)
class Picture:
    """A drawing for those who see it, and for those who do not.

    Attributes:
        png (`bytes`): the drawing.
        description (`str`): what it shows, in words.
    """

    png: bytes
    description: str


Answer = LabelAnswer | TextAnswer | SpeechAnswer | Refusal


@dataclass(frozen=True, eq=False)
class _Recording:
    """What a visitor sent: its name without folders, samples at the processor's rate, and a digest for draws."""

    name: str
    waveform: NDArray[np.float32]
    content: str


class DemoAnswers:
    """Answers for recordings that visitors upload.

    Args:
        tasks (`Mapping[str, DemoTask]`): name → adapter, from `open_tasks`.
        limits (`UploadLimits`, *optional*): what is taken.

    Raises:
        ConfigurationError: there is no task.

    Example:
        ```python
        answers = DemoAnswers(open_tasks({"words": "adapters/words"}))
        for answer in answers.answer("words", "a.wav"):
            print(answer)
        ```
    """

    def __init__(self, tasks: Mapping[str, DemoTask], limits: UploadLimits | None = None) -> None:
        if not tasks:
            raise ConfigurationError("there is no task to answer", hint="open_tasks({'words': 'adapters/words'})")
        self.tasks = dict(tasks)
        self.limits = limits or UploadLimits()
        self._speech = SpeechAnswers(self.limits.max_answer_seconds)

    def warm_up(self) -> None:
        """Answer a moment of noise with every task, and draw it, so that no visitor waits for what is read at first.

        Whatever fails here is logged, and said to the visitor for whom it fails again.
        """
        noise = np.random.default_rng(0).normal(scale=0.1, size=_WARM_UP_SAMPLES).astype(np.float32)
        for task in self.tasks.values():
            try:
                recording = _Recording("noise", noise, content="")
                for _ in self._answers(task, recording):
                    pass
                self._picture(task, recording)
            except Exception:
                _log.exception("the task %r cannot be warmed up", task.name)

    def answer(self, task: str, path: str | os.PathLike[str]) -> Iterator[Answer]:
        """What a task says of a recording; never an error.

        Args:
            task (`str`): its name.
            path (`str | PathLike`): the recording.

        Yields:
            `Answer`: one; but a `TextAnswer` for every piece of a text, each with all that is known.
        """
        try:
            known = self._task(task)
            yield from self._answers(known, self._recording(known, path))
        except SpeechPromptError as error:
            yield Refusal(_sentence(error))
        except Exception:
            _log.exception("no answer of the task %r", task)
            yield Refusal(_UNEXPECTED)

    def picture(self, task: str, path: str | os.PathLike[str]) -> Picture | Refusal:
        """The recording with its units and how much each speaks for a label, or the units of an answer that is speech.

        Args:
            task (`str`): its name.
            path (`str | PathLike`): the recording.

        Returns:
            `Picture | Refusal`: never an error.
        """
        try:
            known = self._task(task)
            return self._picture(known, self._recording(known, path))
        except SpeechPromptError as error:
            return Refusal(_sentence(error))
        except Exception:
            _log.exception("no picture of the task %r", task)
            return Refusal(_UNEXPECTED)

    def _task(self, name: str) -> DemoTask:
        if name not in self.tasks:
            raise ConfigurationError(
                f"there is no task {name!r}", hint="choose one of " + ", ".join(map(repr, self.tasks))
            )
        return self.tasks[name]

    def _recording(self, task: DemoTask, path: str | os.PathLike[str]) -> _Recording:
        extractor = task.model.processor.feature_extractor
        waveform = read_upload(
            path, self.limits, target_rate=extractor.sampling_rate, min_samples=extractor.min_samples
        )
        # As `generate` knows it, so that both draw the same.
        content = content_hash({"path": os.fspath(path)}) if task.says_speech else ""
        return _Recording(Path(path).name, waveform, content)

    def _answers(self, task: DemoTask, recording: _Recording) -> Iterator[Answer]:
        if task.says_speech:
            yield self._spoken(task, recording)
            return
        inputs = _model_inputs(task, recording.waveform)
        if task.says_text:
            yield from _texts(task.model, inputs)
        else:
            yield _labels(task.model, inputs)

    def _picture(self, task: DemoTask, recording: _Recording) -> Picture:
        if task.says_speech:
            return _drawn_speech(task, self._spoken(task, recording))
        if task.says_text:
            return _drawn_units(task, recording.waveform)
        return _explained(task, recording.waveform)

    def _spoken(self, task: DemoTask, recording: _Recording) -> SpeechAnswer:
        return self._speech.answer(task, recording.waveform, content=recording.content, name=recording.name)


def _model_inputs(task: DemoTask, waveform: NDArray[np.float32]) -> dict[str, Any]:
    model, processor = task.model, task.model.processor
    batch = processor([waveform], sampling_rate=processor.feature_extractor.sampling_rate, return_tensors="pt")
    num_output_tokens = model.config.max_output_tokens if task.says_text else 1
    most = max_utterance_tokens(model.lm, num_output_tokens)
    too_long = why_too_long(batch["input_ids"].shape[1] - 2, most)
    if too_long:
        raise UnitError(f"the recording has {too_long}", hint=TOO_LONG_HINT)
    return {name: batch[name].to(model.device) for name in ("input_ids", "attention_mask")}


@torch.no_grad()
def _labels(model: Any, inputs: dict[str, Any]) -> LabelAnswer:
    probabilities = model(**inputs).logits[0].double().softmax(-1).tolist()
    named = [(model.config.id2label[index], probability) for index, probability in enumerate(probabilities)]
    return LabelAnswer(dict(sorted(named, key=lambda pair: -pair[1])))


def _texts(model: Any, inputs: dict[str, Any]) -> Iterator[TextAnswer]:
    text = ""
    for piece in stream_text(model, **inputs, **PLAIN_SEARCH):
        text += piece
        yield TextAnswer(" ".join(text.split()), is_whole=False)
    yield TextAnswer(" ".join(text.split()), is_whole=True)


def _explained(task: DemoTask, waveform: NDArray[np.float32]) -> Picture:
    from ..explanation import draw_explanation, explain_recording

    try:
        explanation = explain_recording(task.model, waveform, method=_METHOD)
    except MissingDependencyError as error:
        _log.warning("%s", error)
        return _drawn_units(task, waveform)
    rate = task.model.processor.feature_extractor.sampling_rate
    figure = draw_explanation(explanation, waveform, rate)
    return Picture(_png(figure), _in_words(explanation))


def _in_words(explanation: Any) -> str:
    """The units that speak most for the label, as spans of time."""
    spoken = f"The recording as a waveform, its {len(explanation.units)} units below"
    most = np.argsort(-explanation.saliency, kind="stable")[:3]
    for_it = sorted(int(index) for index in most if explanation.saliency[index] > 0)
    if not for_it:
        return f"{spoken}; no unit speaks for {explanation.label!r}."
    spans = ", ".join(
        f"{explanation.units[index]} ({explanation.starts[index]:.2f} to {explanation.ends[index]:.2f} s)"
        for index in for_it
    )
    return f"{spoken}; those that speak most for {explanation.label!r}: {spans}."


def _drawn_units(task: DemoTask, waveform: NDArray[np.float32]) -> Picture:
    processor = task.model.processor
    rate = processor.feature_extractor.sampling_rate
    (sequence,) = processor.encode_units([waveform], sampling_rate=rate)
    figure = draw_units(_in_time(task, sequence, waveform))
    return Picture(_png(figure), f"The recording as a waveform, its {len(sequence.units)} units below.")


def _drawn_speech(task: DemoTask, answer: SpeechAnswer) -> Picture:
    heard = _in_time(task, answer.heard_units, answer.heard)
    said = UnitsInTime(answer.units, answer.starts, answer.ends, answer.waveform, answer.sampling_rate)
    figure = draw_speech(heard, said, answer.own_units)
    seconds = len(answer.heard) / heard.sampling_rate
    what = f"The first {seconds:.1f} s of the recording" if answer.own_units else "The recording"
    own = f", of which the first {answer.own_units} are the recording's own" if answer.own_units else ""
    cut = f" It is cut at {answer.seconds:.1f} s." if answer.is_cut else ""
    return Picture(
        _png(figure),
        f"{what} as a waveform, its {len(heard.units)} units below; then the answer, its {len(said.units)} units "
        f"below{own}.{cut}",
    )


def _in_time(task: DemoTask, sequence: UnitSequence, waveform: NDArray[np.float32]) -> UnitsInTime:
    from ..explanation.recording import unit_times

    processor = task.model.processor
    starts, ends = unit_times(sequence, len(waveform), processor)
    return UnitsInTime(sequence.units, starts, ends, waveform, processor.feature_extractor.sampling_rate)


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    return stream.getvalue()


def _sentence(error: SpeechPromptError) -> str:
    parts = [Exception.__str__(error), *([error.hint] if error.hint else [])]
    return " ".join(" ".join(part.split()).rstrip(".") + "." for part in parts)
