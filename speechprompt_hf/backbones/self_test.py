"""Do the embedded weights make the units that they made when they were published?

`python -m speechprompt_hf.backbones.self_test` writes the expected units anew, after the weights have changed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.embedded import DEFAULT_BASE, resolve_base
from ..core.files import read_json, write_json
from ..processors.processing_speech_units import SpeechUnitProcessor

__all__ = ["SELF_TEST_FILE", "run_self_test", "self_test_waveform", "write_self_test"]

SELF_TEST_FILE = "self_test.json"
RATE_HZ = 16_000
#: Another processor's sums may move a frame that lies between two centroids; broken weights move most of them.
_NEEDED_SHARE = 0.95


def self_test_waveform() -> NDArray[np.float32]:
    """1.5 s of gliding harmonics and of noise that grows and falls, the same on every machine: float32 `(24000,)`."""
    time = np.arange(int(1.5 * RATE_HZ)) / RATE_HZ
    pitch = 120 + 60 * time
    phase = 2 * np.pi * np.cumsum(pitch) / RATE_HZ
    formants = (500 + 400 * np.sin(2 * np.pi * 1.3 * time), 1500 + 700 * np.cos(2 * np.pi * 0.9 * time))
    voiced = sum(
        np.sin(number * phase) * sum(np.exp(-(((number * pitch - formant) / 200) ** 2)) for formant in formants)
        for number in range(1, 30)
    )
    # A linear congruential generator: numpy may change its own between versions.
    states = np.empty(len(time), dtype=np.int64)
    state = 1
    for index in range(len(time)):
        state = (1103515245 * state + 12345) % 2**31
        states[index] = state
    hiss = states / 2**30 - 1
    swell = np.clip(np.sin(2 * np.pi * 2 * time), 0, 1)
    return (0.1 * voiced * (1 - swell) + 0.05 * hiss * swell).astype(np.float32)


def write_self_test(base: str = DEFAULT_BASE) -> Path:
    """Write the units that this base makes now into its folder; returns the file."""
    processor = SpeechUnitProcessor.from_pretrained(base)
    sequence = processor.encode_units([self_test_waveform()], sampling_rate=RATE_HZ)[0]
    path = Path(resolve_base(base)) / SELF_TEST_FILE
    write_json(path, {"fingerprint": processor.fingerprint["digest"], "frame_units": sequence.frames.tolist()})
    return path


def run_self_test(base: str = DEFAULT_BASE) -> tuple[bool, str]:
    """Make the units of the test waveform and compare.

    Returns:
        `tuple[bool, str]`: whether they are the expected ones, and a sentence.

    Raises:
        FingerprintMismatchError: the weights are not those that were published.
    """
    expected = read_json(Path(resolve_base(base)) / SELF_TEST_FILE)
    processor = SpeechUnitProcessor.from_pretrained(base)
    frames = processor.encode_units([self_test_waveform()], sampling_rate=RATE_HZ)[0].frames
    if processor.fingerprint["digest"] != expected["fingerprint"]:
        return False, f"{base} is not the backbone that the self-test was written for; install the package again"
    wanted = np.asarray(expected["frame_units"])
    if len(frames) != len(wanted):
        return False, f"{len(frames)} frames, expected {len(wanted)}; install the package again"
    equal = int((frames == wanted).sum())
    version = read_json(Path(resolve_base(base)) / "config.json").get("base_version", "1")
    sentence = f"{equal} of {len(wanted)} frames have the expected unit; {base} is version {version}"
    return equal >= _NEEDED_SHARE * len(wanted), sentence


if __name__ == "__main__":
    print(write_self_test())  # noqa: T201
