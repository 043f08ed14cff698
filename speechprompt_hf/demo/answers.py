"""What a page says of a recording: probabilities, a text, a picture, or one sentence why there is none of these.

Nothing here knows of the page: an answer is a value, and every failure is one, too. A further kind of answer (a model
that answers with speech) is a further class beside `LabelAnswer` and `TextAnswer`, made in `_answers`, and a
component in `page.py`.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.errors import ConfigurationError, MissingDependencyError, SpeechPromptError, UnitError
from ..data.lengths import TOO_LONG_HINT, max_utterance_tokens, why_too_long
from ..decoding.streaming import stream_text
from ..modeling.saved_generation import PLAIN_SEARCH
from .opening import DemoTask
from .pictures import draw_units
from .uploads import UploadLimits, read_upload

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Answer", "DemoAnswers", "LabelAnswer", "Picture", "Refusal", "TextAnswer"]

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


Answer = LabelAnswer | TextAnswer | Refusal


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

    def warm_up(self) -> None:
        """Answer a moment of noise with every task, and draw it, so that no visitor waits for what is read at first.

        Whatever fails here is logged, and said to the visitor for whom it fails again.
        """
        noise = np.random.default_rng(0).normal(scale=0.1, size=_WARM_UP_SAMPLES).astype(np.float32)
        for task in self.tasks.values():
            try:
                for _ in _answers(task, noise):
                    pass
                _picture(task, noise)
            except Exception:
                _log.exception("the task %r cannot be warmed up", task.name)

    def answer(self, task: str, path: str | os.PathLike[str]) -> Iterator[Answer]:
        """What a task says of a recording; never an error.

        Args:
            task (`str`): its name.
            path (`str | PathLike`): the recording.

        Yields:
            `Answer`: one, but a `TextAnswer` for every piece of a text, each with all that is known.
        """
        try:
            known = self._task(task)
            yield from _answers(known, self._waveform(known, path))
        except SpeechPromptError as error:
            yield Refusal(_sentence(error))
        except Exception:
            _log.exception("no answer of the task %r", task)
            yield Refusal(_UNEXPECTED)

    def picture(self, task: str, path: str | os.PathLike[str]) -> Picture | Refusal:
        """The recording with its units and, of tasks with labels, how much each speaks for the answer.

        Args:
            task (`str`): its name.
            path (`str | PathLike`): the recording.

        Returns:
            `Picture | Refusal`: never an error.
        """
        try:
            known = self._task(task)
            return _picture(known, self._waveform(known, path))
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

    def _waveform(self, task: DemoTask, path: str | os.PathLike[str]) -> NDArray[np.float32]:
        extractor = task.model.processor.feature_extractor
        return read_upload(path, self.limits, target_rate=extractor.sampling_rate, min_samples=extractor.min_samples)


def _answers(task: DemoTask, waveform: NDArray[np.float32]) -> Iterator[Answer]:
    inputs = _model_inputs(task, waveform)
    if task.says_text:
        yield from _texts(task.model, inputs)
    else:
        yield _labels(task.model, inputs)


def _picture(task: DemoTask, waveform: NDArray[np.float32]) -> Picture:
    return _drawn_units(task, waveform) if task.says_text else _explained(task, waveform)


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
    from ..explanation.recording import unit_times

    processor = task.model.processor
    rate = processor.feature_extractor.sampling_rate
    (sequence,) = processor.encode_units([waveform], sampling_rate=rate)
    starts, ends = unit_times(sequence, len(waveform), processor)
    figure = draw_units(sequence.units, starts, ends, waveform, rate)
    return Picture(_png(figure), f"The recording as a waveform, its {len(sequence.units)} units below.")


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    return stream.getvalue()


def _sentence(error: SpeechPromptError) -> str:
    parts = [Exception.__str__(error), *([error.hint] if error.hint else [])]
    return " ".join(" ".join(part.split()).rstrip(".") + "." for part in parts)
