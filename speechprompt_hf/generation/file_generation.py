"""`generate_files` and `resynthesise_files`: recordings to files of speech, one after the other, resumable."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.audio_io import check_waveform, load_waveform
from ..core.digest import sha256_of_json, sha256_of_tensors
from ..core.errors import AdapterError, SpeechPromptError
from ..core.units import UnitSequence
from ..data.extraction import content_hash
from ..data.progress import ProgressBar
from ..modeling.adapter_files import training_state
from ..modeling.base_loading import base_fingerprint
from ..modeling.modeling_for_speech_generation import frame_rate_of
from ..modeling.unit_speech import check_vocoder
from .answers import UnitAnswer, heard_part, heard_seconds, seed_of, sound_of, unit_answers
from .output_folder import OutputFolder
from .settings import GenerationSettings

__all__ = ["GeneratedSpeech", "generate_files", "resynthesise_files"]


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
    # Options that contradict each other are refused before anything is made.
    settings.search_options(model.config.speech_task)
    model.eval()
    seconds = heard_seconds(model.config, settings)
    most = settings.max_units or model.max_answer_tokens
    made_with = {
        "task": model.config.speech_task,
        "model": _model_identity(model),
        "units": processor.fingerprint["digest"],
        "vocoder": sha256_of_tensors(model.vocoder.state_dict()),
        "options": {**asdict(settings), "prompt_seconds": seconds, "max_units": most},
    }

    def answers(sequence: UnitSequence, name: str, seed: int) -> list[UnitAnswer]:
        return unit_answers(model, processor, sequence, settings, seed=seed, name=name)

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

    def answers(sequence: UnitSequence, name: str, seed: int) -> list[UnitAnswer]:
        plain = UnitSequence.from_frames(sequence.frames)
        durations = None if settings.predict_durations else plain.durations.tolist()
        return [UnitAnswer(plain.units.tolist(), durations, len(plain))]

    work = _Work(processor, vocoder, settings, answers, None)
    return _run(work, files, output_dir, made_with, overwrite=overwrite, progress=progress)


@dataclass(frozen=True)
class _Work:
    """How one recording becomes speech."""

    processor: Any
    vocoder: Any
    settings: GenerationSettings
    answers: Callable[[UnitSequence, str, int], list[UnitAnswer]]
    seconds: float | None

    def make(self, name: str, content: str) -> tuple[list[NDArray[np.float32]], list[dict[str, Any]]]:
        """Samples and facts of each answer to a recording."""
        rate = int(self.processor.feature_extractor.sampling_rate)
        waveform = load_waveform(name, target_rate=rate, name=name)
        waveform = heard_part(waveform, rate, self.seconds)
        check_waveform(waveform, name=name, min_samples=self.processor.feature_extractor.min_samples)
        (sequence,) = self.processor.encode_units([waveform], sampling_rate=rate)
        found = self.answers(sequence, name, seed_of(self.settings, content))
        waves, facts = [], []
        for answer in found:
            speech = sound_of(self.vocoder, answer, self.settings)
            waves.append(speech.row(0).float().cpu().numpy())
            facts.append(
                {
                    "sha256": content,
                    "own_units": answer.own_units,
                    "units": answer.units,
                    "durations": speech.durations[0].tolist(),
                }
            )
        return waves, facts


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


def _model_identity(model: Any) -> str:
    """Hexadecimal SHA-256 of all that the answers depend on but options and vocoder."""
    trained = sha256_of_tensors(training_state(model))
    return sha256_of_json({"trained": trained, "base": base_fingerprint(model.lm)["weights"]})
