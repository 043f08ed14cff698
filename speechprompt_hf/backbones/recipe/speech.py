"""The speech that the default backbone is made from: four sets of recordings and many synthetic voices."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import soundfile
import soxr

from speechprompt_hf.synthesis.espeak import ENGLISH_VOICES, VARIANTS, Utterance, speak_many

RATE = 16_000
#: CC0 1.0 (three readers) and Apache-2.0 (more than 50 speakers), each with its language.
REAL_SETS = {"kathleen_en": "en", "kerstin_de": "de", "nathalie_nl": "nl", "coffee_orders": "en"}
OTHER_LANGUAGES = ("fr", "es", "it", "pl", "pt", "sv", "fi", "tr", "lt", "cs")
DIGITS = "zero one two three four five six seven eight nine ten"
COMMANDS = (
    "yes no up down left right on off stop go forward backward follow learn play pause open close start begin end "
    "next back home help light lamp music volume louder quieter heat kitchen bedroom bathroom increase decrease raise "
    "lower hello goodbye please thanks cancel repeat record call answer bird cat dog tree house happy wow bed visual "
    "red green blue white black water coffee milk sugar small medium large door window monday tuesday wednesday "
    "thursday friday saturday sunday january february march april may june july august september october november "
    "december north south east west hot cold warm cool fast slow big little good bad new old day night morning "
    "evening man woman child people time year way thing world life hand part place work week case point company "
    "number group problem fact eye school state family student room book word business issue side kind head power"
)
LITHUANIAN = "taip ne ačiū stop įjunk išjunk į viršų į apačią į dešinę į kairę startas pauzė labas iki nulis vienas du"


def read_real(root: str | Path, name: str, split: str = "train") -> list[np.ndarray]:
    """Reads a set's recordings as float32 mono at 16 kHz, brought to one loudness (RMS 0.08)."""
    rows = pq.read_table(Path(root) / name / f"{split}.parquet", columns=["audio"])["audio"].to_pylist()
    return [equal_level(_decode(row)) for row in rows]


def read_texts(root: str | Path, name: str) -> list[str]:
    """Reads the sentences of a reader's set."""
    texts = pq.read_table(Path(root) / name / "train.parquet", columns=["text"])["text"].to_pylist()
    return [text.strip() for text in texts if text and text.strip()]


def _decode(data: bytes) -> np.ndarray:
    wave, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    return wave if rate == RATE else soxr.resample(wave, rate, RATE).astype(np.float32)


def equal_level(wave: np.ndarray, level: float = 0.08) -> np.ndarray:
    """Scales to a root mean square of `level`, clipped to [-1, 1]."""
    scale = level / max(1e-4, float(np.sqrt(np.mean(wave**2))))
    return np.clip(wave * scale, -1.0, 1.0).astype(np.float32)


def change_speed(wave: np.ndarray, speed: float) -> np.ndarray:
    """Plays faster (above 1) or slower; pitch and formants move along, as with a shorter or longer vocal tract."""
    return soxr.resample(wave, RATE, RATE / speed).astype(np.float32)


def trim(wave: np.ndarray, *, margin: int = 800, threshold: float = 0.02) -> np.ndarray:
    """Cuts silence at both ends, leaving `margin` samples."""
    loud = np.flatnonzero(np.abs(wave) > threshold * max(1e-6, float(np.abs(wave).max())))
    if not len(loud):
        return wave[:0]
    return wave[max(0, loud[0] - margin) : loud[-1] + margin]


def plan_synthetic(root: str | Path, *, num_words: int, num_sentences: int, seed: int) -> list[Utterance]:
    """Draws what is said by which voice: words and short phrases, then sentences."""
    generator = np.random.default_rng(seed)
    english, german, dutch = (read_texts(root, name) for name in list(REAL_SETS)[:3])
    digits, commands, lithuanian = DIGITS.split(), COMMANDS.split(), LITHUANIAN.split()
    vocabulary = sorted({word.strip(".,!?;:\"'").lower() for text in english for word in text.split()} - {""})
    planned = []
    for index in range(num_words + num_sentences):
        draw = generator.random()
        voice = str(generator.choice(ENGLISH_VOICES))
        if index < num_words:
            if draw < 0.3:
                text = " ".join(generator.choice(digits, size=generator.choice([1, 1, 1, 2, 3])))
            elif draw < 0.6:
                text = " ".join(generator.choice(commands, size=generator.choice([1, 1, 2])))
            elif draw < 0.8:
                text = str(generator.choice(vocabulary))
            elif draw < 0.9:
                voice, text = "lt", str(generator.choice(lithuanian))
            else:
                voice, text = str(generator.choice(OTHER_LANGUAGES)), str(generator.integers(0, 100))
        elif draw < 0.6:
            text = str(generator.choice(english))
        elif draw < 0.75:
            voice, text = "de", str(generator.choice(german))
        elif draw < 0.9:
            voice, text = "nl", str(generator.choice(dutch))
        else:
            voice = str(generator.choice(OTHER_LANGUAGES))
            text = " ".join(str(number) for number in generator.integers(0, 3000, size=6))
        planned.append(
            Utterance(
                text,
                voice=voice,
                variant=str(generator.choice(VARIANTS)),
                pitch=int(generator.integers(15, 85)),
                words_per_minute=int(generator.integers(105, 240)),
                pitch_range=int(generator.integers(20, 90)),
            )
        )
    return planned


def speak(planned: list[Utterance], *, seed: int) -> list[np.ndarray]:
    """Synthesises, trims, plays at a random speed (0.85 to 1.2) and levels; nothing shorter than 0.1 s is kept."""
    return [wave for _, wave in speak_each(planned, seed=seed)]


def speak_each(planned: list[Utterance], *, seed: int) -> list[tuple[str, np.ndarray]]:
    """What [`speak`] makes, each with its language: `"en"` of `"en-us"`."""
    generator = np.random.default_rng(seed)
    clips = []
    for utterance, (wave, rate) in zip(planned, speak_many(planned), strict=True):
        wave = soxr.resample(wave, rate * generator.uniform(0.85, 1.2), RATE).astype(np.float32)
        wave = trim(wave, margin=int(generator.integers(200, 1600)))
        if len(wave) >= RATE // 10:
            clips.append((utterance.voice.split("-")[0], equal_level(wave)))
    return clips
