"""Prosody of a waveform, frame by frame: fundamental frequency, periodicity, level and spectral balance. NumPy only.

The pitch tracker is Boersma's (1993): peaks of the autocorrelation of a windowed frame, divided by that of the window,
and a shortest path through the peaks of all frames. Everything is calculated in float64 on the CPU from the samples of
one recording, so that it depends on no neighbour, padding or device.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.errors import AudioTooShortError, AudioValueError, ConfigurationError

__all__ = ["PitchSettings", "ProsodyFrames", "prosody_frames"]

FloatArray = NDArray[np.float64]

# Frames whose spectra are held at once.
_BLOCK_FRAMES = 128
_NUM_PEAKS = 6
# The autocorrelation is interpolated to this many lags a sample: peaks of sharp pulses are narrow, and where one falls
# between two lags, that of a multiple of the period that does not would look higher.
_LAGS_A_SAMPLE = 4
# Level of a frame without sound, relative to the loudest one.
_FLOOR_DB = -60.0
_BALANCE_LIMIT_DB = 40.0


@dataclass(frozen=True)
class PitchSettings:
    """Settings of the pitch tracker; the defaults are Praat's, with a range for speech of men, women and children.

    Attributes:
        min_hz (`float`, defaults to 60): lowest fundamental frequency.
        max_hz (`float`, defaults to 500): highest one.
        window_seconds (`float`, defaults to 0.05): length of a frame's Hann window, three periods of `min_hz`.
        voicing_threshold (`float`, defaults to 0.45): normalised autocorrelation above which a frame is voiced.
        silence_threshold (`float`, defaults to 0.03): level, relative to the loudest frame, below which none is.
        octave_cost (`float`, defaults to 0.01): preference for the higher of two equal peaks, per octave.
        octave_jump_cost (`float`, defaults to 0.35): of a change by an octave within 10 ms.
        voicing_change_cost (`float`, defaults to 0.14): of a change between voiced and unvoiced within 10 ms.
    """

    min_hz: float = 60.0
    max_hz: float = 500.0
    window_seconds: float = 0.05
    voicing_threshold: float = 0.45
    silence_threshold: float = 0.03
    octave_cost: float = 0.01
    octave_jump_cost: float = 0.35
    voicing_change_cost: float = 0.14

    def __post_init__(self) -> None:
        if not 0 < self.min_hz < self.max_hz:
            raise ConfigurationError(
                f"a pitch range from {self.min_hz} to {self.max_hz} Hz", hint="min_hz lies above 0 and below max_hz"
            )
        if self.window_seconds * self.min_hz < 2.5:
            raise ConfigurationError(
                f"a window of {self.window_seconds} s holds less than 2.5 periods of {self.min_hz} Hz",
                hint="lengthen window_seconds or raise min_hz",
            )


@dataclass(frozen=True)
class ProsodyFrames:
    """Prosody of one recording; all arrays are float64 of shape `(T,)`.

    Attributes:
        f0 (`NDArray`): fundamental frequency in Hz, 0 where unvoiced.
        periodicity (`NDArray`): height of the chosen autocorrelation peak, or of the highest where unvoiced: 0 to 1.
        level (`NDArray`): in dB below the recording's loudest frame: -60 to 0. Silence has -60.
        balance (`NDArray`): power above 1 kHz against power below it, in dB: -40 to 40. Silence has 0.
    """

    f0: FloatArray
    periodicity: FloatArray
    level: FloatArray
    balance: FloatArray

    def __len__(self) -> int:
        return int(self.f0.size)


def prosody_frames(
    waveform: NDArray[np.floating],
    centres: NDArray[np.integer],
    sampling_rate: int,
    settings: PitchSettings | None = None,
) -> ProsodyFrames:
    """Prosody of a recording around given samples.

    A factor on all samples changes nothing (but rounding).

    Args:
        waveform (`NDArray[floating]` of shape `(S,)`): real samples only, no padding.
        centres (`NDArray[integer]` of shape `(T,)`): the sample in the middle of each frame, rising; equal steps but
            where a long recording was encoded in chunks.
        sampling_rate (`int`): in Hz.
        settings (`PitchSettings`, *optional*): of the pitch tracker.

    Returns:
        `ProsodyFrames` of T frames. Samples before the first and after the last count as 0.

    Raises:
        AudioTooShortError: there is no sample or no frame.
        AudioValueError: the waveform is no vector of finite floating samples.
        ConfigurationError: the sampling rate cannot carry the pitch range.
    """
    settings = settings or PitchSettings()
    samples = np.asarray(waveform)
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
        raise AudioValueError(
            f"the waveform has shape {samples.shape} and dtype {samples.dtype}", hint="give one floating channel"
        )
    if samples.size == 0 or len(centres) == 0:
        raise AudioTooShortError(
            f"{samples.size} samples and {len(centres)} frames have no prosody", hint="leave the recording out"
        )
    if not np.isfinite(samples).all():
        raise AudioValueError("the waveform holds NaN or infinite samples", hint="leave the recording out")
    if sampling_rate < 4 * settings.max_hz:
        raise ConfigurationError(
            f"{sampling_rate} Hz is too low a rate for a pitch of {settings.max_hz} Hz",
            hint="resample to 16000 Hz, or lower max_hz",
        )
    peak = float(np.abs(samples).max())
    scaled = samples.astype(np.float64) / (peak or 1.0)
    peaks, powers, balance = _analyse(scaled, np.asarray(centres, dtype=np.int64), sampling_rate, settings)
    loudest = float(powers.max())
    relative = powers / loudest if loudest > 0 else np.zeros_like(powers)
    level = np.maximum(10 * np.log10(np.maximum(relative, 1e-30)), _FLOOR_DB)
    steps = np.diff(centres, prepend=centres[:1]) / sampling_rate
    choice = _best_path(peaks, np.sqrt(relative), steps, settings)
    voiced = choice < _NUM_PEAKS
    rows, columns = np.arange(len(choice)), np.where(voiced, choice, 0)
    f0 = np.where(voiced, peaks.hz[rows, columns], 0.0)
    return ProsodyFrames(f0, np.clip(peaks.height[rows, columns], 0.0, 1.0), level, balance)


@dataclass(frozen=True)
class _Peaks:
    """Autocorrelation peaks, the most likely first: Hz and height, `(T, _NUM_PEAKS)`; absent ones have height -1."""

    hz: FloatArray
    height: FloatArray


def _analyse(
    samples: FloatArray, centres: NDArray[np.int64], rate: int, settings: PitchSettings
) -> tuple[_Peaks, FloatArray, FloatArray]:
    """Peaks, power and spectral balance of every frame, block by block."""
    length = round(settings.window_seconds * rate)
    window = np.hanning(length + 2)[1:-1]
    fine_rate = rate * _LAGS_A_SAMPLE
    shortest, longest = int(fine_rate / settings.max_hz), int(np.ceil(fine_rate / settings.min_hz))
    size = 1 << int(np.ceil(np.log2(length + rate / settings.min_hz + 2)))
    fine_size = size * _LAGS_A_SAMPLE
    of_window = np.fft.irfft(np.abs(np.fft.rfft(window, size)) ** 2, fine_size)[: longest + 2]
    of_window /= of_window[0]
    first_high = int(np.ceil(1000.0 * size / rate))
    padded = np.pad(samples, length)
    hz, heights, powers, balances = [], [], [], []
    for start in range(0, len(centres), _BLOCK_FRAMES):
        firsts = centres[start : start + _BLOCK_FRAMES] - length // 2 + length
        index = np.clip(firsts[:, None] + np.arange(length), 0, len(padded) - 1)
        frames = padded[index]
        # The mean under the window, else a constant offset would look periodic.
        mean = (frames * window).sum(axis=1, keepdims=True) / window.sum()
        frames = (frames - mean) * window
        spectrum = np.abs(np.fft.rfft(frames, size, axis=1)) ** 2
        correlation = np.fft.irfft(spectrum, fine_size, axis=1)[:, : longest + 2]
        power = correlation[:, 0].copy()
        # Peak amplitude is 1: less than this is rounding.
        silent = power < 1e-12
        normalized = correlation / np.where(silent, 1.0, power)[:, None] / of_window
        normalized[silent] = 0.0
        power[silent] = 0.0
        block = _peaks(normalized, shortest, longest, fine_rate, settings)
        low, high = spectrum[:, :first_high].sum(axis=1), spectrum[:, first_high:].sum(axis=1)
        balance = 10 * np.log10(np.maximum(high, 1e-12) / np.maximum(low, 1e-12))
        hz.append(block.hz)
        heights.append(block.height)
        powers.append(power)
        balances.append(np.where(silent, 0.0, np.clip(balance, -_BALANCE_LIMIT_DB, _BALANCE_LIMIT_DB)))
    return _Peaks(np.concatenate(hz), np.concatenate(heights)), np.concatenate(powers), np.concatenate(balances)


def _peaks(normalized: FloatArray, shortest: int, longest: int, rate: int, settings: PitchSettings) -> _Peaks:
    """The highest local maxima of `(T, longest + 2)` autocorrelations, refined by parabolas."""
    before, here, after = (normalized[:, shortest + shift : longest + 1 + shift] for shift in (-1, 0, 1))
    is_peak = (here > before) & (here >= after) & (here > 0)
    curvature = np.where(is_peak, before - 2 * here + after, -1.0)
    offset = np.where(is_peak, 0.5 * (before - after) / curvature, 0.0)
    height = np.where(is_peak, here - 0.25 * (before - after) * offset, -1.0)
    # Above 1 only where the window's own correlation is small: as in Boersma's program, reflected.
    height = np.where(height > 1, 1 / np.maximum(height, 1), height)
    hz = rate / (np.arange(shortest, longest + 1) + offset)
    likely = np.where(is_peak, height + settings.octave_cost * np.log2(hz / settings.min_hz), -1.0)
    order = np.argsort(-likely, axis=1, kind="stable")[:, :_NUM_PEAKS]
    return _Peaks(np.take_along_axis(hz, order, 1), np.take_along_axis(height, order, 1))


def _best_path(peaks: _Peaks, amplitude: FloatArray, steps: FloatArray, settings: PitchSettings) -> NDArray[np.int64]:
    """Viterbi: index of a peak per frame, `_NUM_PEAKS` for unvoiced."""
    present = peaks.height > 0
    gain = np.full((len(amplitude), _NUM_PEAKS + 1), -1e6)
    gain[:, :-1][present] = (peaks.height + settings.octave_cost * np.log2(peaks.hz / settings.min_hz))[present]
    quiet = 2 - amplitude * (1 + settings.voicing_threshold) / settings.silence_threshold
    gain[:, -1] = settings.voicing_threshold + np.maximum(0.0, quiet)
    octaves = np.log2(peaks.hz)
    # Costs are per 10 ms; slower frames may change more.
    scale = 0.01 / np.maximum(steps, 1e-4)
    total, back = gain[0], np.zeros(gain.shape, dtype=np.int64)
    cost = np.full((_NUM_PEAKS + 1, _NUM_PEAKS + 1), settings.voicing_change_cost)
    cost[-1, -1] = 0.0
    for frame in range(1, len(gain)):
        cost[:-1, :-1] = settings.octave_jump_cost * np.abs(octaves[frame - 1][:, None] - octaves[frame])
        arriving = total[:, None] - scale[frame] * cost
        back[frame] = arriving.argmax(axis=0)
        total = arriving[back[frame], np.arange(_NUM_PEAKS + 1)] + gain[frame]
    path = np.empty(len(gain), dtype=np.int64)
    path[-1] = total.argmax()
    for frame in range(len(gain) - 1, 0, -1):
        path[frame - 1] = back[frame, path[frame]]
    return path
