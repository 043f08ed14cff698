"""Copies of training recordings at another speed, with noise, at another level; made before units."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.digest import sha256_of_json
from ..core.errors import ConfigurationError
from ..core.extras import torchaudio_is_usable

__all__ = ["AUGMENTATIONS", "Augmentation"]

Waveform = NDArray[np.float32]


@dataclass(frozen=True)
class Augmentation:
    """What a copy is drawn from.

    Speed is changed by resampling, so pitch changes with it. torchaudio does the work where it is usable; soxr and
    numpy do otherwise. The two resamplers differ in the last digits, so the backend is part of the `digest`.

    Attributes:
        speed (`tuple[float, float]`, defaults to `(0.9, 1.1)`): factor; above 1 is faster.
        signal_to_noise_db (`tuple[float, float]`, defaults to `(15.0, 40.0)`): white noise below the speech, in dB.
        gain_db (`tuple[float, float]`, defaults to `(-6.0, 6.0)`): change of level in dB.

    Raises:
        ConfigurationError: a range is reversed or a speed is not positive.
    """

    speed: tuple[float, float] = (0.9, 1.1)
    signal_to_noise_db: tuple[float, float] = (15.0, 40.0)
    gain_db: tuple[float, float] = (-6.0, 6.0)

    def __post_init__(self) -> None:
        for name, (low, high) in asdict(self).items():
            if low > high:
                raise ConfigurationError(f"{name} is a range from {low} to {high}", hint="the smaller number first")
        if self.speed[0] <= 0:
            raise ConfigurationError(f"a speed of {self.speed[0]} is impossible")

    @property
    def digest(self) -> str:
        """Identity of the augmentation, for the unit cache."""
        return sha256_of_json({**asdict(self), "torchaudio": torchaudio_is_usable()})

    def apply(self, waveform: Waveform, rate: int, generator: np.random.Generator) -> Waveform:
        """One changed copy.

        Args:
            waveform (`NDArray[float32]` of shape `(S,)`): samples.
            rate (`int`): sampling rate in Hz.
            generator (`np.random.Generator`): where the three numbers and the noise come from.

        Returns:
            `NDArray[float32]` of shape `(about S / speed,)`.
        """
        speed = float(generator.uniform(*self.speed))
        signal_to_noise_db = float(generator.uniform(*self.signal_to_noise_db))
        gain_db = float(generator.uniform(*self.gain_db))
        # Whole hertz in steps of 1 %, so that resampling filters stay short.
        target = max(round(rate / speed / (rate / 100)), 1) * rate // 100
        if torchaudio_is_usable():
            return _with_torchaudio(waveform, rate, target, signal_to_noise_db, gain_db, generator)
        return _with_soxr(waveform, rate, target, signal_to_noise_db, gain_db, generator)


AUGMENTATIONS: dict[str, Augmentation] = {"speech": Augmentation()}
"""Ready-made augmentations by name."""


def _with_torchaudio(
    waveform: Waveform, rate: int, target: int, signal_to_noise_db: float, gain_db: float, generator: Any
) -> Waveform:
    import torch
    import torchaudio.functional as audio

    noise = generator.standard_normal
    samples = audio.resample(torch.from_numpy(np.array(waveform)), rate, target)
    white = torch.from_numpy(noise(len(samples)).astype(np.float32))
    if samples.square().sum() > 0:
        samples = audio.add_noise(samples[None], white[None], torch.tensor([signal_to_noise_db]))[0]
    return audio.gain(samples, gain_db).numpy()


def _with_soxr(
    waveform: Waveform, rate: int, target: int, signal_to_noise_db: float, gain_db: float, generator: Any
) -> Waveform:
    import soxr

    samples = np.asarray(soxr.resample(waveform, rate, target), dtype=np.float32)
    white = generator.standard_normal(len(samples)).astype(np.float32)
    energy, noise_energy = float(np.square(samples).sum()), float(np.square(white).sum())
    if energy > 0:
        samples = samples + white * np.sqrt(energy / noise_energy / 10 ** (signal_to_noise_db / 10))
    return (samples * 10 ** (gain_db / 20)).astype(np.float32)
