"""Mel spectra of waveforms, with gradients: what vocoders are told to sound like."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.errors import ConfigurationError

__all__ = ["LOG_FLOOR", "MelSpectrogram", "mel_filters"]

LOG_FLOOR = 1e-5
"""Magnitudes below are silence, as in HiFi-GAN."""


class MelSpectrogram(nn.Module):
    """Logarithms of mel magnitudes.

    Args:
        rate_hz (`int`): of the audio.
        n_fft (`int`, *optional*, defaults to 1024): samples of the Hann window.
        hop (`int`, *optional*, defaults to 256): samples from one window to the next.
        num_bands (`int`, *optional*, defaults to 80): triangles, on Slaney's scale, of equal area.

    Raises:
        ConfigurationError: the window is shorter than the hop, or too short for so many bands.

    Source:
        HiFi-GAN `meldataset.py`, `mel_spectrogram`, whose filters are librosa's.
    """

    filters: Tensor
    window: Tensor

    def __init__(self, rate_hz: int, *, n_fft: int = 1024, hop: int = 256, num_bands: int = 80) -> None:
        super().__init__()
        if not 1 <= hop <= n_fft:
            raise ConfigurationError(f"a window of {n_fft} samples has a hop of {hop}", hint="the hop is shorter")
        self.n_fft, self.hop = n_fft, hop
        self.register_buffer("filters", mel_filters(rate_hz, n_fft, num_bands), persistent=False)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def magnitudes(self, waveform: Tensor) -> Tensor:
        """Magnitudes of the spectra.

        Args:
            waveform (`Tensor` of shape `(B, S)`): samples.

        Returns:
            `Tensor` of shape `(B, n_fft / 2 + 1, ceil(S / hop))`: windows are centred on each hop; beyond the ends
            there is silence.
        """
        edge = self.n_fft - self.hop
        missing = -waveform.shape[1] % self.hop
        padded = F.pad(waveform, (edge // 2, edge - edge // 2 + missing))
        spectrum = torch.stft(
            padded, self.n_fft, self.hop, window=self.window, center=False, onesided=True, return_complex=True
        )
        return torch.sqrt(spectrum.real.square() + spectrum.imag.square() + 1e-9)

    def forward(self, waveform: Tensor) -> Tensor:
        """Logarithms of mel magnitudes.

        Args:
            waveform (`Tensor` of shape `(B, S)`): samples.

        Returns:
            `Tensor` of shape `(B, num_bands, ceil(S / hop))`.
        """
        return torch.log((self.filters @ self.magnitudes(waveform)).clamp(min=LOG_FLOOR))


@lru_cache(maxsize=32)
def _filters(rate_hz: int, n_fft: int, num_bands: int) -> Tensor:
    from transformers.audio_utils import mel_filter_bank

    bank = mel_filter_bank(
        num_frequency_bins=n_fft // 2 + 1,
        num_mel_filters=num_bands,
        min_frequency=0.0,
        max_frequency=rate_hz / 2,
        sampling_rate=rate_hz,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(bank).float().T.contiguous()


def mel_filters(rate_hz: int, n_fft: int, num_bands: int) -> Tensor:
    """Triangles on Slaney's mel scale from 0 Hz to half the rate, each of area 1.

    Args:
        rate_hz (`int`): of the audio.
        n_fft (`int`): samples of the window.
        num_bands (`int`): bands.

    Returns:
        `Tensor` of shape `(num_bands, n_fft / 2 + 1)`, float32.

    Raises:
        ConfigurationError: a band is narrower than what the window resolves.
    """
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers warns of empty bands; here they are an error
        filters = _filters(rate_hz, n_fft, num_bands)
    if not bool(filters.any(dim=1).all()):
        raise ConfigurationError(
            f"{num_bands} mel bands are too many for a window of {n_fft} samples", hint="take fewer bands"
        )
    return filters.clone()
