"""The quick start's recordings: keywords in many synthetic voices."""

from __future__ import annotations

import csv
from pathlib import Path

__all__ = ["KEYWORDS", "make_recordings"]

KEYWORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")

#: Of 20 voices, 13 train, 3 choose the epoch, 4 are heard only in the test.
_PARTS = ("train",) * 13 + ("validation",) * 3 + ("test",) * 4


def make_recordings(folder: Path, *, num_voices: int, seed: int) -> int:
    """Speak every keyword twice in every voice; writes `metadata.csv` and one folder of recordings a keyword.

    A voice is a variant of the engine (vocal tract, source, breath) with an accent and a pitch of its own; take two is
    faster or slower than take one. No voice is in two parts.

    Args:
        folder (`Path`): receives the files.
        num_voices (`int`): at least 20, at most as many as the engine has variants.
        seed (`int`): of accents, pitches and speeds.

    Returns:
        `int`: number of recordings.

    Raises:
        MissingDependencyError: the engine is not installed.
    """
    import numpy as np
    import soundfile

    from speechprompt_hf.synthesis.espeak import ENGLISH_VOICES, VARIANTS, Utterance, iterate_speech

    from .console import progress_bar

    generator = np.random.default_rng(seed)
    variants = [VARIANTS[index] for index in generator.permutation(len(VARIANTS))[:num_voices]]
    plan: list[tuple[str, str, str, Utterance]] = []
    for number, variant in enumerate(variants):
        part, accent = _PARTS[number % len(_PARTS)], ENGLISH_VOICES[generator.integers(len(ENGLISH_VOICES))]
        pitch = int(generator.integers(30, 71))
        for keyword in KEYWORDS:
            for take in (1, 2):
                speed = int(generator.integers(130, 211))
                file = f"{keyword}/{variant}_{take}.flac"
                plan.append((file, variant, part, Utterance(keyword, accent, variant, pitch, speed)))
    for keyword in KEYWORDS:
        (folder / keyword).mkdir(parents=True, exist_ok=True)
    with (
        open(folder / "metadata.csv", "w", encoding="utf-8", newline="") as stream,
        progress_bar("recordings", len(plan)) as advance,
    ):
        table = csv.writer(stream)
        table.writerow(["file_name", "label", "speaker", "split"])
        utterances = [utterance for *_, utterance in plan]
        for (file, speaker, part, utterance), (wave, rate) in zip(plan, iterate_speech(utterances), strict=True):
            soundfile.write(folder / file, wave, rate)
            table.writerow([file, utterance.text, speaker, part])
            advance(1)
    return len(plan)
