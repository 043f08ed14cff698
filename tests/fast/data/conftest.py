"""Recordings and a processor that counts what it encodes."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from speechprompt_hf.core.errors import AudioTooShortError
from speechprompt_hf.core.units import UnitSequence


@pytest.fixture(autouse=True)
def _own_caches(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setenv("SPEECHPROMPT_CACHE", str(tmp_path / "cache"))


class CountingProcessor:
    """Eight units of loudness, 20 ms each; refuses recordings below one frame."""

    def __init__(self, digest="d" * 64):
        self.feature_extractor = SimpleNamespace(sampling_rate=16000)
        self.fingerprint = {"digest": digest}
        self.num_encoded = 0

    def encode_units(self, waves, sampling_rate=None):
        assert sampling_rate == 16000
        for wave in waves:
            if len(wave) < 320:
                raise AudioTooShortError(f"the recording has {len(wave)} samples")
        self.num_encoded += len(waves)
        return [UnitSequence.from_frames(self.frames(wave)) for wave in waves]

    @staticmethod
    def frames(wave):
        frames = wave[: len(wave) // 320 * 320].reshape(-1, 320)
        return np.minimum(np.abs(frames).mean(axis=1) * 16, 7).astype(np.int64)


class ProsodyProcessor(CountingProcessor):
    """The same units, and beside each whether it is louder than the one before."""

    def __init__(self, digest="d" * 64, streams_digest="5" * 64):
        super().__init__(digest)
        self.fingerprint |= {"prosody_digest": "9" * 64, "streams_digest": streams_digest}

    def encode_units(self, waves, sampling_rate=None):
        return [
            UnitSequence(units.units, units.durations, (np.diff(units.units, prepend=-1) > 0).astype(np.int64))
            for units in super().encode_units(waves, sampling_rate)
        ]


@pytest.fixture
def processor():
    return CountingProcessor()


@pytest.fixture
def prosody_processor():
    return ProsodyProcessor()


def write_recording(path: Path, seed: int, seconds: float = 0.3, rate: int = 16000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).uniform(-0.9, 0.9, int(seconds * rate))
    soundfile.write(path, noise * np.abs(np.sin(np.arange(len(noise)) / 2000)), rate)
    return path


@pytest.fixture
def label_folder(tmp_path):
    """Two labels, four speakers each, two takes: names as in the Speech Commands sets."""
    folder = tmp_path / "recordings"
    for number, label in enumerate(("no", "yes")):
        for speaker in "abcd":
            for take in range(2):
                seed = number * 100 + ord(speaker) * 2 + take
                write_recording(folder / label / f"{speaker}_nohash_{take}.wav", seed)
    return folder
