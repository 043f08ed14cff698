"""HiFi-GAN's discriminators, of any width, and one that reads spectra."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

__all__ = ["Discriminators", "PeriodDiscriminator", "ScaleDiscriminator", "SpectrumDiscriminator", "Verdict"]

SLOPE = 0.1
"""Of the leaky ReLUs."""

Verdict = tuple[Tensor, list[Tensor]]
"""Scores of shape `(B, N)`, near 1 for real speech, and the features of every layer."""


def _scaled(channels: Sequence[int], width: float, groups: int = 1) -> list[int]:
    """Channels times the width, multiples of the groups, and at least 4."""
    least = max(1, 4 // groups)
    return [max(least, round(count * width / groups)) * groups for count in channels]


class PeriodDiscriminator(nn.Module):
    """Reads every p-th sample beside its neighbours: a column a phase of a period.

    Args:
        period (`int`): p.
        width (`float`, *optional*, defaults to 1.0): share of the original's channels.

    Source:
        HiFi-GAN (Kong et al. 2020), `DiscriminatorP`.
    """

    def __init__(self, period: int, width: float = 1.0) -> None:
        super().__init__()
        self.period = period
        channels = [1, *_scaled((32, 128, 512, 1024, 1024), width)]
        self.convs = nn.ModuleList(
            weight_norm(
                nn.Conv2d(channels[index], channels[index + 1], (5, 1), (3 if index < 4 else 1, 1), padding=(2, 0))
            )
            for index in range(5)
        )
        self.conv_post = weight_norm(nn.Conv2d(channels[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, waveform: Tensor) -> Verdict:
        """Scores of a waveform of shape `(B, S)`; S is at least the period."""
        missing = -waveform.shape[1] % self.period
        hidden = F.pad(waveform[:, None], (0, missing), "reflect")
        hidden = hidden.view(len(waveform), 1, -1, self.period)
        return _verdict(hidden, self.convs, self.conv_post)


class ScaleDiscriminator(nn.Module):
    """Reads the waveform, or one of half the rate, by long grouped convolutions.

    Args:
        halvings (`int`): how often the waveform is averaged down by two.
        width (`float`, *optional*, defaults to 1.0): share of the original's channels.

    Source:
        HiFi-GAN (Kong et al. 2020), `DiscriminatorS`: spectral norm on the first scale, weight norm on the others.
    """

    def __init__(self, halvings: int, width: float = 1.0) -> None:
        super().__init__()
        self.halvings = halvings
        norm = weight_norm if halvings else spectral_norm
        groups = [1, 4, 16, 16, 16, 16, 1]
        sizes = [15, 41, 41, 41, 41, 41, 5]
        strides = [1, 2, 2, 4, 4, 1, 1]
        # Groups divide channels in and out at every width.
        channels = [1, *_scaled((128, 128, 256, 512, 1024, 1024, 1024), width, groups=16)]
        self.convs = nn.ModuleList(
            norm(
                nn.Conv1d(
                    channels[index],
                    channels[index + 1],
                    sizes[index],
                    strides[index],
                    groups=groups[index],
                    padding=sizes[index] // 2,
                )
            )
            for index in range(7)
        )
        self.conv_post = norm(nn.Conv1d(channels[-1], 1, 3, padding=1))

    def forward(self, waveform: Tensor) -> Verdict:
        """Scores of a waveform of shape `(B, S)`."""
        hidden = waveform[:, None]
        for _ in range(self.halvings):
            hidden = F.avg_pool1d(hidden, 4, 2, padding=2)
        return _verdict(hidden, self.convs, self.conv_post)


class SpectrumDiscriminator(nn.Module):
    """Reads magnitudes of spectra.

    Args:
        n_fft (`int`): samples of the window; the hop is a quarter.
        width (`float`, *optional*, defaults to 1.0): share of the original's channels.

    Source:
        UnivNet (Jang et al. 2021), `SpecDiscriminator`, with strides along frequency as in Vocos.
    """

    window: Tensor

    def __init__(self, n_fft: int, width: float = 1.0) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        count = _scaled((32,), width)[0]
        plan = [(1, (3, 9), (1, 1)), *((count, (3, 9), (1, 2)) for _ in range(3)), (count, (3, 3), (1, 1))]
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(inputs, count, size, stride, padding=(size[0] // 2, size[1] // 2)))
            for inputs, size, stride in plan
        )
        self.conv_post = weight_norm(nn.Conv2d(count, 1, (3, 3), padding=(1, 1)))

    def forward(self, waveform: Tensor) -> Verdict:
        """Scores of a waveform of shape `(B, S)`."""
        hop = self.n_fft // 4
        edge = (self.n_fft - hop) // 2
        padded = F.pad(waveform, (edge, edge))
        spectrum = torch.stft(padded, self.n_fft, hop, window=self.window, center=False, return_complex=True)
        magnitudes = torch.sqrt(spectrum.real.square() + spectrum.imag.square() + 1e-9)
        # (B, 1, frames, bins): strides run along the bins.
        return _verdict(magnitudes.transpose(1, 2)[:, None], self.convs, self.conv_post)


def _verdict(hidden: Tensor, convs: nn.ModuleList, conv_post: nn.Module) -> Verdict:
    features = []
    for conv in convs:
        hidden = F.leaky_relu(conv(hidden), SLOPE)
        features.append(hidden)
    hidden = conv_post(hidden)
    features.append(hidden)
    return hidden.flatten(1), features


class Discriminators(nn.Module):
    """All discriminators of a training.

    Args:
        periods (`Sequence[int]`, *optional*): of the period discriminators; HiFi-GAN's by default.
        num_scales (`int`, *optional*, defaults to 3): scale discriminators: the waveform, then half the rate each.
        windows (`Sequence[int]`, *optional*): windows of discriminators of spectra in samples; none by default.
        width (`float`, *optional*, defaults to 1.0): share of the originals' channels.
    """

    def __init__(
        self,
        periods: Sequence[int] = (2, 3, 5, 7, 11),
        num_scales: int = 3,
        windows: Sequence[int] = (),
        width: float = 1.0,
    ) -> None:
        super().__init__()
        self.parts = nn.ModuleList(
            [
                *(PeriodDiscriminator(period, width) for period in periods),
                *(ScaleDiscriminator(scale, width) for scale in range(num_scales)),
                *(SpectrumDiscriminator(size, width) for size in windows),
            ]
        )

    def forward(self, waveform: Tensor) -> list[Verdict]:
        """What each says of a waveform of shape `(B, S)`."""
        return [part(waveform) for part in self.parts]
