"""`generate_files` and `resynthesise_files`: recordings to files of speech, one after the other, resumable."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.audio_io import check_waveform, load_waveform
from ..core.digest import sha256_of_json, sha256_of_tensors
from ..core.errors import AdapterError, SpeechPromptError, UnitError
from ..core.units import UnitSequence
from ..data.extraction import content_hash
from ..data.lengths import TOO_LONG_HINT, max_utterance_tokens, why_too_long
from ..data.progress import ProgressBar
from ..modeling.adapter_files import training_state
from ..modeling.base_loading import base_fingerprint
from ..modeling.modeling_for_speech_generation import frame_rate_of
from ..modeling.unit_speech import check_vocoder, speak_units
from .output_folder import OutputFolder
from .settings import GenerationSettings

__all__ = ["GeneratedSpeech", "generate_files", "resynthesise_files"]

# Of adapters that do not say how much they heard in training.
_PROMPT_SECONDS = 3.0

# Units and, where they are known, durations of one answer; how many of them are the recording's own.
Answer = tuple[list[int], "list[int] | None", int]


@dataclass(frozen=True)
class GeneratedSpeech:
    """What was made of one recording.

    Attributes:
        file (`str`): the recording, as it was given.
        lines (`tuple[dict, ...]`): a record for each file of speech, as `generations.jsonl` has it.
        error (`str | None`): why there is none.
        was_there (`bool`): an earlier run has made them.
    """

    file: str
    lines: tuple[dict[str, Any], ...] = ()
    error: str | None = None
    was_there: bool = False


def generate_files(
    model: Any,
    files: Iterable[str | os.PathLike[str]],
    output_dir: str | os.PathLike[str],
    settings: GenerationSettings | None = None,
    *,
    processor: Any = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Iterator[GeneratedSpeech]:
    """Answer recordings with speech: continue, correct or translate them, as the adapter was trained to.

    Each file is written whole or not at all. A run that was stopped goes on: what is there, of the same recording,
    model, vocoder and options, is not made again. What is drawn depends on the seed and the
    recording alone.

    Args:
        model (`SpeechPromptForSpeechGeneration`): with a vocoder attached; put into evaluation mode.
        files (`Iterable[str | PathLike]`): recordings of any format that libsndfile reads, at any rate.
        output_dir (`str | PathLike`): receives a wav file (16 bit) and a line of `generations.jsonl` for each answer.
        settings (`GenerationSettings`, *optional*): the defaults.
        processor (`SpeechUnitProcessor`, *optional*): the model's own by default.
        overwrite (`bool`, defaults to `False`): replace what was made there with other options.
        progress (`bool`, defaults to `False`): a bar on stderr.

    Yields:
        `GeneratedSpeech`: one a recording, in order; a bad recording does not stop the others.

    Raises:
        AdapterError: the model has no vocoder, or no processor.
        ConfigurationError: options contradict each other, or the folder is another run's.
    """
    settings = settings or GenerationSettings()
    processor = processor or model.processor
    if processor is None:
        raise AdapterError(
            f"{model.config._name_or_path or 'the model'} has no processor that makes units of recordings",
            hint="save the adapter again on a base that has a processor",
        )
    if model.vocoder is None:
        model.speak([])
    search = settings.search_options(model.config.speech_task)
    model.eval()
    continues = model.config.speech_task == "continuation"
    seconds = (settings.prompt_seconds or model.config.prompt_seconds or _PROMPT_SECONDS) if continues else None
    most = settings.max_units or model.max_answer_tokens
    made_with = {
        "task": model.config.speech_task,
        "model": _model_identity(model),
        "units": processor.fingerprint["digest"],
        "vocoder": sha256_of_tensors(model.vocoder.state_dict()),
        "options": {**asdict(settings), "prompt_seconds": seconds, "max_units": most},
    }
    longest = max_utterance_tokens(model.lm, most)

    def answers(sequence: UnitSequence, name: str, seed: int) -> list[Answer]:
        too_long = why_too_long(len(sequence), longest)
        if too_long:
            raise UnitError(f"{name} has {too_long}", hint=TOO_LONG_HINT)
        batch = processor.prepare_units([sequence.units], return_tensors="pt")
        inputs = {key: batch[key].to(model.device) for key in ("input_ids", "attention_mask")}
        with _seeded(seed, model.device):
            said = [row.tolist() for row in model.generate_units(**inputs, **search)]
        if continues:
            return [_continued(sequence, row, settings.predict_durations) for row in said]
        if not all(said):
            raise UnitError(f"the model says nothing after {name}", hint="train it longer, or search otherwise")
        return [(row, None, 0) for row in said]

    work = _Work(processor, model.vocoder, settings, answers, seconds)
    return _run(work, files, output_dir, made_with, overwrite=overwrite, progress=progress)


def resynthesise_files(
    processor: Any,
    vocoder: Any,
    files: Iterable[str | os.PathLike[str]],
    output_dir: str | os.PathLike[str],
    settings: GenerationSettings | None = None,
    *,
    overwrite: bool = False,
    progress: bool = False,
) -> Iterator[GeneratedSpeech]:
    """Say recordings again by their units alone, at another tempo if that is wanted; files as `generate_files`.

    Args:
        processor (`SpeechUnitProcessor`): makes the units.
        vocoder (`PreTrainedModel`): says them.
        files (`Iterable[str | PathLike]`): recordings.
        output_dir (`str | PathLike`): receives the speech.
        settings (`GenerationSettings`, *optional*): of them `tempo`, `predict_durations` and `speaker` count.
        overwrite (`bool`, defaults to `False`): replace what was made there with other options.
        progress (`bool`, defaults to `False`): a bar on stderr.

    Yields:
        `GeneratedSpeech`: one a recording, in order.

    Raises:
        AdapterError, ConfigurationError, FingerprintMismatchError: the vocoder says other units, or the folder is
            another run's.
    """
    settings = settings or GenerationSettings()
    units = processor.unit_encoder.num_units
    check_vocoder(vocoder, units, processor.fingerprint, frame_rate_of(processor), "the base")
    made_with = {
        "task": "resynthesis",
        "units": processor.fingerprint["digest"],
        "vocoder": sha256_of_tensors(vocoder.state_dict()),
        "options": {name: getattr(settings, name) for name in ("tempo", "predict_durations", "speaker")},
    }

    def answers(sequence: UnitSequence, name: str, seed: int) -> list[Answer]:
        plain = UnitSequence.from_frames(sequence.frames)
        durations = None if settings.predict_durations else plain.durations.tolist()
        return [(plain.units.tolist(), durations, len(plain))]

    work = _Work(processor, vocoder, settings, answers, None)
    return _run(work, files, output_dir, made_with, overwrite=overwrite, progress=progress)


@dataclass(frozen=True)
class _Work:
    """How one recording becomes speech."""

    processor: Any
    vocoder: Any
    settings: GenerationSettings
    answers: Callable[[UnitSequence, str, int], list[Answer]]
    seconds: float | None

    def make(self, name: str, content: str) -> tuple[list[NDArray[np.float32]], list[dict[str, Any]]]:
        """Samples and facts of each answer to a recording."""
        rate = int(self.processor.feature_extractor.sampling_rate)
        waveform = load_waveform(name, target_rate=rate, name=name)
        if self.seconds is not None:
            # Cut before it is encoded: units of a prompt must not have heard what follows.
            waveform = waveform[: max(1, round(self.seconds * rate))]
        check_waveform(waveform, name=name, min_samples=self.processor.feature_extractor.min_samples)
        (sequence,) = self.processor.encode_units([waveform], sampling_rate=rate)
        seed = int(sha256_of_json([self.settings.seed, content])[:15], 16)
        found = self.answers(sequence, name, seed)
        waves, facts = [], []
        for units, durations, own in found:
            speech = speak_units(
                self.vocoder,
                [units],
                [_completed(self.vocoder, units, durations)],
                tempo=self.settings.tempo,
                speaker_ids=self._speaker(),
            )
            waves.append(speech.row(0).float().cpu().numpy())
            fact = {"sha256": content, "own_units": own, "units": units, "durations": speech.durations[0].tolist()}
            facts.append(fact)
        return waves, facts

    def _speaker(self) -> torch.Tensor | None:
        speaker = self.settings.speaker
        return None if speaker is None else torch.tensor([speaker], device=self.vocoder.device)


def _run(
    work: _Work,
    files: Iterable[str | os.PathLike[str]],
    output_dir: str | os.PathLike[str],
    made_with: Mapping[str, Any],
    *,
    overwrite: bool,
    progress: bool,
) -> Iterator[GeneratedSpeech]:
    names = list(dict.fromkeys(os.fspath(file) for file in files))
    folder = OutputFolder(output_dir, made_with, overwrite=overwrite)
    with folder:
        contents, errors = _contents(names)
        known = {name: folder.done(name, content) for name, content in contents.items()}
        pending = sum(lines is None for lines in known.values())
        rate = int(work.vocoder.sampling_rate)
        with ProgressBar("recordings", total=pending, show=progress) as bar:
            for name in names:
                there = known.get(name)
                if name in errors:
                    yield GeneratedSpeech(name, error=errors[name])
                elif there is not None:
                    yield GeneratedSpeech(name, tuple(there), was_there=True)
                else:
                    try:
                        waves, facts = work.make(name, contents[name])
                        lines = folder.write(name, waves, rate, facts)
                    except SpeechPromptError as error:
                        said = str(error)
                        yield GeneratedSpeech(name, error=said if name in said else f"{name}: {said}")
                    else:
                        yield GeneratedSpeech(name, tuple(lines))
                    bar.advance()


def _contents(names: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """SHA-256 of each recording, and why some have none."""
    contents, errors = {}, {}
    for name in names:
        try:
            contents[name] = content_hash({"path": name})
        except SpeechPromptError as error:
            errors[name] = str(error)
    return contents, errors


def _continued(sequence: UnitSequence, said: list[int], predict_durations: bool) -> Answer:
    """The recording's units and what was said after them; one that goes on is not said twice."""
    own = UnitSequence.from_frames(sequence.frames)
    units, durations = own.units.tolist(), own.durations.tolist()
    if units and said and said[0] == units[-1]:
        said = said[1:]
    return [*units, *said], (None if predict_durations else durations), len(units)


def _completed(vocoder: Any, units: list[int], durations: list[int] | None) -> list[int] | None:
    """Durations of all units, where those of the first ones are known: the vocoder says the others."""
    if durations is None or len(durations) == len(units):
        return durations
    row = torch.tensor([units], device=vocoder.device)
    predicted: list[int] = vocoder.predict_durations(row)[0].tolist()
    return [*durations, *predicted[len(durations) :]]


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draws of a block by a seed of their own, on whatever device."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _model_identity(model: Any) -> str:
    """Hexadecimal SHA-256 of all that the answers depend on but options and vocoder."""
    trained = sha256_of_tensors(training_state(model))
    return sha256_of_json({"trained": trained, "base": base_fingerprint(model.lm)["weights"]})
