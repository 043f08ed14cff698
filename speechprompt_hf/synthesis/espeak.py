"""Speech from eSpeak NG, many voices, through a worker process.

eSpeak NG is GPL-3: its library is never loaded into the caller's process. The worker is a script that talks over
pipes; what comes back is plain samples.
"""

from __future__ import annotations

import importlib.util
import json
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import numpy as np

from ..core.errors import ConfigurationError, MissingDependencyError, SpeechPromptError

_WORKER = Path(__file__).with_name("espeak_worker.py")
_HEADER = struct.Struct("<iii")

#: Accents of English that the engine knows.
ENGLISH_VOICES = (
    "en-us", "en-gb", "en-gb-scotland", "en-029", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-us-nyc",
)  # fmt: skip
#: Voice variants (vocal tract, source, breath) that stay intelligible; effects such as `robosoft` are left out.
VARIANTS = (
    "f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "Alex", "Alicia", "Andrea", "Andy",
    "Annie", "Denis", "Diogo", "Gene", "Gene2", "Henrique", "Hugo", "Jacky", "Lee", "Marco", "Mario", "Michael",
    "Mike", "Nguyen", "Reed", "adam", "anika", "antonio", "aunty", "belinda", "benjamin", "boris", "caleb", "david",
    "ed", "edward", "grandma", "grandpa", "gustave", "ian", "iven", "iven2", "iven3", "iven4", "john", "kaukovalta",
    "klatt", "klatt2", "klatt3", "klatt4", "klatt5", "klatt6", "linda", "marcelo", "max", "michel", "miguel",
    "norbert", "pablo", "paul", "pedro", "quincy", "rob", "robert", "sandro", "shelby", "steph", "steph2", "steph3",
    "travis", "victor", "zac",
)  # fmt: skip


@dataclass(frozen=True)
class Utterance:
    """One thing to say.

    Args:
        text (`str`): what is said.
        voice (`str`, *optional*, defaults to `"en-us"`): language and accent.
        variant (`str`, *optional*, defaults to `""`): voice variant, for example `"f3"`; empty for the plain voice.
        pitch (`int`, *optional*, defaults to 50): 0 to 99.
        words_per_minute (`int`, *optional*, defaults to 175): 80 to 450.
        pitch_range (`int`, *optional*, defaults to 50): 0 (monotone) to 99.
    """

    text: str
    voice: str = "en-us"
    variant: str = ""
    pitch: int = 50
    words_per_minute: int = 175
    pitch_range: int = 50


def is_available() -> bool:
    """Says whether the engine is installed, without loading it."""
    return importlib.util.find_spec("espeakng_loader") is not None


def speak_many(utterances: Sequence[Utterance]) -> list[tuple[np.ndarray, int]]:
    """Synthesises utterances in order.

    Args:
        utterances (`Sequence[Utterance]`): what to say.

    Returns:
        `list[tuple[np.ndarray, int]]`: for each, float32 samples in [-1, 1], shape (S,), and the rate in hertz
        (22050). Silence at both ends is the engine's.

    Raises:
        MissingDependencyError: the engine is not installed.
        ConfigurationError: the engine does not know a voice; the message names the utterance.
        SpeechPromptError: the worker process died.
    """
    return list(iterate_speech(utterances))


def iterate_speech(utterances: Sequence[Utterance]) -> Iterator[tuple[np.ndarray, int]]:
    """Like [`speak_many`], one at a time, so that a progress bar can be shown."""
    if not is_available():
        raise MissingDependencyError(
            "Synthetic speech needs the eSpeak NG engine.",
            hint="pip install espeakng-loader (the engine is GPL-3 and runs in a process of its own).",
        )
    process = subprocess.Popen(
        [sys.executable, str(_WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    feeder = threading.Thread(target=_feed, args=(process.stdin, utterances), daemon=True)
    feeder.start()
    try:
        for index, utterance in enumerate(utterances):
            yield _receive(process, index, utterance)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
        feeder.join(timeout=5)


def _feed(pipe: IO[bytes], utterances: Sequence[Utterance]) -> None:
    """Writes the requests; runs in a thread, so that neither side waits for a full pipe."""
    try:
        for utterance in utterances:
            pipe.write(json.dumps(asdict(utterance)).encode() + b"\n")
        pipe.close()
    except (BrokenPipeError, OSError, ValueError):
        return  # the reader reports why the worker ended


def _receive(process: subprocess.Popen[bytes], index: int, utterance: Utterance) -> tuple[np.ndarray, int]:
    assert process.stdout is not None and process.stderr is not None
    header = process.stdout.read(_HEADER.size)
    if len(header) < _HEADER.size:
        reason = process.stderr.read().decode(errors="replace").strip().splitlines()
        raise SpeechPromptError(
            f"The eSpeak NG process ended before utterance {index} ({utterance.text!r}).",
            hint=reason[-1] if reason else "It left no message.",
        )
    rate, size, status = _HEADER.unpack(header)
    if status:
        message = process.stdout.read(size).decode(errors="replace")
        raise ConfigurationError(
            f"Utterance {index} ({utterance.text!r}) was not spoken: {message}.",
            hint="Choose a voice and a variant that eSpeak NG has.",
        )
    samples = np.frombuffer(process.stdout.read(2 * size), dtype="<i2")
    return samples.astype(np.float32) / 32768.0, rate
