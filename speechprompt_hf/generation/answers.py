"""One recording's answer: its units by the model, and their sound by a vocoder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.digest import sha256_of_json
from ..core.errors import UnitError
from ..core.units import UnitSequence
from ..data.lengths import TOO_LONG_HINT, max_utterance_tokens, why_too_long
from ..modeling.unit_speech import UnitSpeech, speak_units
from .settings import GenerationSettings

__all__ = ["UnitAnswer", "heard_part", "heard_seconds", "known_durations", "seed_of", "sound_of", "unit_answers"]

# Of adapters that do not say how much they heard in training.
_PROMPT_SECONDS = 3.0


@dataclass(frozen=True)
class UnitAnswer:
    """What is to be said after a recording.

    Attributes:
        units (`list[int]`): merged units.
        durations (`list[int]`, *optional*): frames of the first ones, those of the recording itself; `None`: the
            vocoder says all.
        own_units (`int`): how many of the units are the recording's own.
    """

    units: list[int]
    durations: list[int] | None = None
    own_units: int = 0


def heard_seconds(config: Any, settings: GenerationSettings) -> float | None:
    """How much is heard of a recording's beginning: what the settings say, else as much as in training.

    Args:
        config (`SpeechPromptConfig`): of the adapter.
        settings (`GenerationSettings`): `prompt_seconds` counts.

    Returns:
        `float | None`: seconds; `None`: all of it, where nothing is continued.
    """
    if config.speech_task != "continuation":
        return None
    return settings.prompt_seconds or config.prompt_seconds or _PROMPT_SECONDS


def heard_part(waveform: NDArray[np.float32], rate: int, seconds: float | None) -> NDArray[np.float32]:
    """What is heard of a recording.

    It is cut before it is encoded: units of a prompt must not have heard what follows.

    Args:
        waveform (`NDArray[float32]` of shape `(S,)`): mono samples.
        rate (`int`): in Hz.
        seconds (`float`, *optional*): of its beginning; all of it by default.
    """
    return waveform if seconds is None else waveform[: max(1, round(seconds * rate))]


def seed_of(settings: GenerationSettings, content: str) -> int:
    """The seed of a recording's draws, by the settings' seed and its content alone.

    Args:
        settings (`GenerationSettings`): `seed` counts.
        content (`str`): digest of the recording.
    """
    return int(sha256_of_json([settings.seed, content])[:15], 16)


def unit_answers(
    model: Any, processor: Any, sequence: UnitSequence, settings: GenerationSettings, *, seed: int, name: str
) -> list[UnitAnswer]:
    """Answers to one recording.

    Args:
        model (`SpeechPromptForSpeechGeneration`): in evaluation mode.
        processor (`SpeechUnitProcessor`): that made the units.
        sequence (`UnitSequence`): the units that were heard.
        settings (`GenerationSettings`): how to search or draw.
        seed (`int`): of draws.
        name (`str`): the recording, for messages.

    Returns:
        `list[UnitAnswer]`: `num_samples` of them.

    Raises:
        ConfigurationError: settings contradict each other.
        UnitError: there are more units than the model reads, or nothing is said.
    """
    speech_task = model.config.speech_task
    search = settings.search_options(speech_task)
    longest = max_utterance_tokens(model.lm, settings.max_units or model.max_answer_tokens)
    too_long = why_too_long(len(sequence), longest)
    if too_long:
        raise UnitError(f"{name} has {too_long}", hint=TOO_LONG_HINT)
    batch = processor.prepare_units([sequence.units], return_tensors="pt")
    inputs = {key: batch[key].to(model.device) for key in ("input_ids", "attention_mask")}
    with _seeded(seed, model.device):
        said = [row.tolist() for row in model.generate_units(**inputs, **search)]
    if speech_task == "continuation":
        return [_continued(sequence, row, settings.predict_durations) for row in said]
    if not all(said):
        raise UnitError(f"the model says nothing after {name}", hint="train it longer, or search otherwise")
    return [UnitAnswer(row) for row in said]


def sound_of(vocoder: Any, answer: UnitAnswer, settings: GenerationSettings) -> UnitSpeech:
    """The sound of one answer.

    Args:
        vocoder (`PreTrainedModel`): of these units.
        answer (`UnitAnswer`): what is said.
        settings (`GenerationSettings`): `tempo` and `speaker` count.

    Raises:
        ConfigurationError: see `speak_units`.
        UnitError: see `speak_units`.
    """
    speaker = settings.speaker
    return speak_units(
        vocoder,
        [answer.units],
        [known_durations(vocoder, answer)],
        tempo=settings.tempo,
        speaker_ids=None if speaker is None else torch.tensor([speaker], device=vocoder.device),
    )


def known_durations(vocoder: Any, answer: UnitAnswer) -> list[int] | None:
    """Frames of all units, where those of the first ones are known; `None`: the vocoder says all.

    Args:
        vocoder (`PreTrainedModel`): says how long the others last.
        answer (`UnitAnswer`): what is said.
    """
    units, durations = answer.units, answer.durations
    if durations is None or len(durations) == len(units):
        return durations
    row = torch.tensor([units], device=vocoder.device)
    predicted: list[int] = vocoder.predict_durations(row)[0].tolist()
    return [*durations, *predicted[len(durations) :]]


def _continued(sequence: UnitSequence, said: list[int], predict_durations: bool) -> UnitAnswer:
    """The recording's units and what was said after them; one that goes on is not said twice."""
    own = UnitSequence.from_frames(sequence.frames)
    units, durations = own.units.tolist(), own.durations.tolist()
    if units and said and said[0] == units[-1]:
        said = said[1:]
    return UnitAnswer([*units, *said], None if predict_durations else durations, len(units))


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draws of a block by a seed of their own, on whatever device."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
