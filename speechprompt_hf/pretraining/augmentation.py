"""Disturbances of training speech: equalisation, reverberation, low-pass, coloured noise, level.

All are drawn per recording and applied to a batch with two Fourier transforms; only the speed change needs a
resampler (torchaudio's where it is installed and loads, else soxr).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soxr
import torch
from torch import Tensor

from ..core.extras import torchaudio_is_usable


@dataclass(frozen=True)
class AugmentationConfig:
    """How often and how strongly speech is disturbed.

    Args:
        equaliser_probability (`float`, *optional*, defaults to 0.7): of a smooth random frequency response.
        equaliser_decibels (`float`, *optional*, defaults to 6.0): its standard deviation.
        reverberation_probability (`float`, *optional*, defaults to 0.3): of an exponentially decaying room.
        low_pass_probability (`float`, *optional*, defaults to 0.35): of a cut at 3.4 to 4 kHz, as of 8 kHz audio.
        noise_probability (`float`, *optional*, defaults to 0.6): of coloured noise.
        noise_decibels (`tuple[float, float]`, *optional*, defaults to `(5.0, 40.0)`): signal-to-noise ratios.
        level_decibels (`float`, *optional*, defaults to 3.0): standard deviation of the level around unit RMS.
    """

    equaliser_probability: float = 0.7
    equaliser_decibels: float = 6.0
    reverberation_probability: float = 0.3
    low_pass_probability: float = 0.35
    noise_probability: float = 0.6
    noise_decibels: tuple[float, float] = (5.0, 40.0)
    level_decibels: float = 3.0


def unit_variance(waves: Tensor) -> Tensor:
    """Removes each row's mean and scales it to unit variance: (B, S) float32 to the same shape."""
    centred = waves - waves.mean(dim=-1, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(dim=-1, keepdim=True) + 1e-7)


def augment(
    waves: Tensor, generator: np.random.Generator, config: AugmentationConfig | None = None, *, rate_hz: int = 16_000
) -> Tensor:
    """Disturbs a batch of recordings, each in its own way.

    Args:
        waves (`Tensor`): float32 of shape (B, S).
        generator (`np.random.Generator`): source of all draws.
        config ([`AugmentationConfig`], *optional*): probabilities and strengths.
        rate_hz (`int`, *optional*, defaults to 16000): sampling rate.

    Returns:
        `Tensor`: float32 of shape (B, S), each row with zero mean and a variance of 1, but for the drawn level.
    """
    config = config or AugmentationConfig()
    num_rows, num_samples = waves.shape
    size = 2 ** int(np.ceil(np.log2(num_samples + rate_hz // 4)))  # room for the reverberation's tail
    frequencies = np.fft.rfftfreq(size, 1 / rate_hz)
    response = np.stack([_linear_response(frequencies, size, rate_hz, generator, config) for _ in range(num_rows)])
    spectrum = torch.fft.rfft(unit_variance(waves), n=size) * torch.from_numpy(response)
    clean = unit_variance(torch.fft.irfft(spectrum, n=size)[:, :num_samples])
    noise_gain = np.where(
        generator.random(num_rows) < config.noise_probability,
        10 ** (-generator.uniform(*config.noise_decibels, size=num_rows) / 20),
        0.0,
    ).astype(np.float32)
    noisy = unit_variance(
        clean + torch.from_numpy(noise_gain)[:, None] * _coloured_noise(clean.shape, generator, rate_hz)
    )
    level = 10 ** (generator.normal(0, config.level_decibels, size=(num_rows, 1)) / 20)
    return noisy * torch.from_numpy(level.astype(np.float32))


def _linear_response(
    frequencies: np.ndarray, size: int, rate_hz: int, generator: np.random.Generator, config: AugmentationConfig
) -> np.ndarray:
    """One recording's frequency response, complex64 of shape (size / 2 + 1,)."""
    response = np.ones(len(frequencies), dtype=np.complex64)
    if generator.random() < config.equaliser_probability:
        knots = np.array([0, 100, 200, 400, 800, 1600, 3200, 5000, rate_hz / 2])
        decibels = generator.normal(0, config.equaliser_decibels, size=len(knots)).clip(-15, 15)
        response *= (10 ** (np.interp(frequencies, knots, decibels) / 20)).astype(np.float32)
    if generator.random() < config.low_pass_probability:
        cut = generator.uniform(3400, 4000)
        response *= (10 ** (-np.clip((frequencies - cut) / 200, 0, 3))).astype(np.float32)  # 60 dB within 600 Hz
    if generator.random() < config.reverberation_probability:
        length = int(generator.uniform(0.05, 0.25) * rate_hz)
        decay = np.exp(-6.9 * np.arange(length) / length)
        room = generator.standard_normal(length) * decay
        room *= generator.uniform(0.1, 0.6) / np.linalg.norm(room)
        room[0] += 1.0
        response *= np.fft.rfft(room, n=size).astype(np.complex64)
    return response


def _coloured_noise(shape: torch.Size, generator: np.random.Generator, rate_hz: int) -> Tensor:
    """Noise with a spectrum falling by 0 to 6 dB an octave, another slope for each row, at unit variance."""
    num_rows, num_samples = shape
    white = torch.from_numpy(generator.standard_normal((num_rows, num_samples), dtype=np.float32))
    spectrum = torch.fft.rfft(white)
    frequencies = torch.linspace(0, rate_hz / 2, spectrum.shape[1]).clamp_min(50.0)
    slopes = torch.from_numpy(generator.uniform(0, 1, size=(num_rows, 1)).astype(np.float32))
    return unit_variance(torch.fft.irfft(spectrum * frequencies[None] ** -slopes, n=num_samples))


def change_speed(wave: np.ndarray, speed: float, *, rate_hz: int = 16_000) -> np.ndarray:
    """Plays faster (`speed` above 1) or slower; pitch and formants move along.

    Args:
        wave (`np.ndarray`): float32 of shape (S,).
        speed (`float`): factor of speed.
        rate_hz (`int`, *optional*, defaults to 16000): sampling rate.

    Returns:
        `np.ndarray`: float32 of about S / speed samples.
    """
    if torchaudio_is_usable():
        from torchaudio.functional import resample

        hundredths = round(100 * speed)
        return np.asarray(resample(torch.from_numpy(wave), hundredths, 100), dtype=np.float32)
    return np.asarray(soxr.resample(wave, rate_hz, rate_hz / speed, quality="MQ"), dtype=np.float32)
