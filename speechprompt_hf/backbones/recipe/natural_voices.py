"""Synthetic speech with the voices of real people: Flite's (CMU), free of conditions, through its command.

Formant synthesis has many voices, none of them a person's. Flite's four are cut or modelled from recordings of three
men and a woman; other pitches, speeds and vocal tracts make more of them.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from speechprompt_hf.core.errors import MissingDependencyError, SpeechPromptError

from .speech import COMMANDS, DIGITS, RATE, equal_level, read_texts, trim

#: Name of a voice and the mean pitch, in hertz, around which it is moved.
VOICES = {"kal16": 105.0, "awb": 120.0, "rms": 100.0, "slt": 170.0}


@dataclass(frozen=True)
class FliteUtterance:
    """One thing to say.

    Args:
        text (`str`): English.
        voice (`str`): one of [`VOICES`].
        pitch_hertz (`float`): mean of the fundamental frequency.
        stretch (`float`): durations' factor; above 1 is slower.
        speed (`float`): played faster (above 1) or slower afterwards: another vocal tract.
    """

    text: str
    voice: str
    pitch_hertz: float
    stretch: float
    speed: float


def plan_natural(root: str | Path, *, num_words: int, num_sentences: int, seed: int) -> list[FliteUtterance]:
    """Draws what is said by which voice: words and short phrases, then sentences."""
    generator = np.random.default_rng(seed)
    sentences = read_texts(root, "kathleen_en")
    digits, commands = DIGITS.split(), COMMANDS.split()
    vocabulary = sorted({word.strip(".,!?;:\"'").lower() for text in sentences for word in text.split()} - {""})
    planned = []
    for index in range(num_words + num_sentences):
        draw = generator.random()
        if index >= num_words:
            text = str(generator.choice(sentences))
        elif draw < 0.3:
            text = " ".join(generator.choice(digits, size=generator.choice([1, 1, 1, 2, 3])))
        elif draw < 0.6:
            text = " ".join(generator.choice(commands, size=generator.choice([1, 1, 2])))
        else:
            text = " ".join(generator.choice(vocabulary, size=generator.choice([1, 1, 2])))
        voice = str(generator.choice(list(VOICES)))
        planned.append(
            FliteUtterance(
                text,
                voice,
                pitch_hertz=float(VOICES[voice] * generator.uniform(0.8, 1.3)),
                stretch=float(generator.uniform(0.75, 1.3)),
                speed=float(generator.uniform(0.82, 1.2)),
            )
        )
    return planned


def speak_natural(planned: list[FliteUtterance], *, seed: int) -> list[np.ndarray]:
    """Synthesises, plays at its speed, trims and levels.

    Args:
        planned (`list[FliteUtterance]`): what to say.
        seed (`int`): of the silence left at both ends.

    Returns:
        `list[np.ndarray]`: float32 waves at 16 kHz; nothing shorter than 0.1 s is kept.

    Raises:
        MissingDependencyError: there is no command `flite`.
        SpeechPromptError: it refused an utterance; the message names it.
    """
    if shutil.which("flite") is None:
        raise MissingDependencyError("There is no command flite.", hint="apt install flite")
    generator = np.random.default_rng(seed)
    clips = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "speech.wav"
        for number, utterance in enumerate(planned):
            wave, rate = _speak(number, utterance, file)
            wave = soxr.resample(wave, rate * utterance.speed, RATE).astype(np.float32)
            wave = trim(wave, margin=int(generator.integers(200, 1600)))
            if len(wave) >= RATE // 10:
                clips.append(equal_level(wave))
    return clips


def _speak(number: int, utterance: FliteUtterance, file: Path) -> tuple[np.ndarray, int]:
    features = {"int_f0_target_mean": utterance.pitch_hertz, "duration_stretch": utterance.stretch}
    command = ["flite", "-voice", utterance.voice, "-t", utterance.text, "-o", str(file)]
    for name, value in features.items():
        command += ["--setf", f"{name}={value:.2f}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not file.is_file():
        raise SpeechPromptError(
            f"Flite did not speak utterance {number} ({utterance.text!r} by {utterance.voice}).",
            hint=done.stderr.strip()[-200:] or "It left no message.",
        )
    wave, rate = soundfile.read(file, dtype="float32")
    return wave, rate
