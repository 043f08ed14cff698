"""The parts of the small unit vocoder: ConvNeXt blocks over frames, and a head that says spectra."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .configuration_unit_vocos import UnitVocosConfig

__all__ = ["ConvNextBlock", "InverseFourierHead", "VocosGenerator"]

MAX_MAGNITUDE = 100.0
"""Of a spectrum, as in the original: an exponential needs a bound."""


class ConvNextBlock(nn.Module):
    """A depthwise convolution, and two layers over channels, with a residual connection.

    Args:
        config (`UnitVocosConfig`): sizes.

    Source:
        Liu et al., "A ConvNet for the 2020s" (2022), in one dimension.
    """

    def __init__(self, config: UnitVocosConfig) -> None:
        super().__init__()
        width, size = config.hidden_size, config.kernel_size
        self.dwconv = nn.Conv1d(width, width, size, padding=size // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.pwconv1 = nn.Linear(width, config.intermediate_size)
        self.pwconv2 = nn.Linear(config.intermediate_size, width)
        self.scale = nn.Parameter(torch.ones(width) / max(1, config.num_layers + config.num_fine_layers))

    def forward(self, hidden_states: Tensor, padding: Tensor | None = None) -> Tensor:
        """The block's output, which is zero where there is padding.

        Args:
            hidden_states (`Tensor` of shape `(B, T, D)`): zero where there is padding.
            padding (`BoolTensor` of shape `(B, T, 1)`, *optional*): `True` behind the end of each row.

        Returns:
            `Tensor` of shape `(B, T, D)`.
        """
        update = self.dwconv(hidden_states.transpose(1, 2)).transpose(1, 2)
        update = self.pwconv2(F.gelu(self.pwconv1(self.norm(update))))
        return _without_padding(hidden_states + self.scale * update, padding)


class InverseFourierHead(nn.Module):
    """Magnitudes and phases of spectra, and their overlapping windows as sound.

    The windows are divided by what they add up to between other windows, at the ends of a row too: so samples depend
    on the spectra near them alone, and not on where the row ends. The first and last half window of a row fades.

    Args:
        config (`UnitVocosConfig`): sizes.
    """

    window: Tensor

    def __init__(self, config: UnitVocosConfig) -> None:
        super().__init__()
        self.n_fft, self.hop = config.n_fft, config.fine_hop_length
        self.projection = nn.Linear(config.hidden_size, config.n_fft + 2)
        self.register_buffer("window", self.scaled_window(), persistent=False)

    def scaled_window(self) -> Tensor:
        """A Hann window, over the sum of the squares of the windows that overlap."""
        window = torch.hann_window(self.n_fft)
        return window / (window.square().sum() / self.hop)

    def forward(self, hidden_states: Tensor, padding: Tensor | None = None) -> Tensor:
        """Samples of each row.

        Args:
            hidden_states (`Tensor` of shape `(B, F, D)`): of each spectrum.
            padding (`BoolTensor` of shape `(B, F, 1)`, *optional*): `True` behind the end of each row.

        Returns:
            `Tensor` of shape `(B, F * hop)`, float32: in [-1, 1], zero behind each row's end.
        """
        magnitude, phase = self.projection(hidden_states).float().chunk(2, dim=-1)
        magnitude = torch.exp(magnitude).clamp(max=MAX_MAGNITUDE)
        spectrum = torch.complex(magnitude * torch.cos(phase), magnitude * torch.sin(phase))
        pieces = torch.fft.irfft(spectrum, n=self.n_fft, dim=-1) * self.window.float()
        samples = self.overlap(_without_padding(pieces, padding))
        samples = samples.clamp(-1.0, 1.0)
        if padding is not None:
            samples = samples.masked_fill(padding[:, :, 0].repeat_interleave(self.hop, dim=1), 0.0)
        return samples

    def overlap(self, pieces: Tensor) -> Tensor:
        """The sum of windows that begin `hop` samples after each other, without the half windows at both ends.

        Args:
            pieces (`Tensor` of shape `(B, F, n_fft)`): the samples of each window.

        Returns:
            `Tensor` of shape `(B, F * hop)`: the window of spectrum f is centred on sample `(f + 1 / 2) * hop`.
        """
        rows, spectra = pieces.shape[:2]
        parts = self.n_fft // self.hop
        pieces = pieces.view(rows, spectra, parts, self.hop)
        total = pieces.new_zeros(rows, spectra + parts - 1, self.hop)
        for part in range(parts):
            total = total + F.pad(pieces[:, :, part], (0, 0, part, parts - 1 - part))
        edge = (self.n_fft - self.hop) // 2
        return total.flatten(1)[:, edge : edge + spectra * self.hop]


class VocosGenerator(nn.Module):
    """Embedded frames to samples.

    Blocks over frames see far at little cost; then each frame becomes `upsample_rate` spectra. Padding is zeroed
    behind every layer, so that each row's samples are those of the row alone.

    Args:
        config (`UnitVocosConfig`): sizes.

    Source:
        Siuzdak, "Vocos" (2023), `VocosBackbone` and `ISTFTHead`.
    """

    def __init__(self, config: UnitVocosConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.rate = config.upsample_rate
        self.conv_pre = nn.Conv1d(
            config.generator_channels, width, config.kernel_size, padding=config.kernel_size // 2
        )
        self.norm_pre = nn.LayerNorm(width)
        self.layers = nn.ModuleList(ConvNextBlock(config) for _ in range(config.num_layers))
        self.upsampler = nn.Linear(width, self.rate * width) if self.rate > 1 else None
        self.fine_layers = nn.ModuleList(ConvNextBlock(config) for _ in range(config.num_fine_layers))
        self.norm_post = nn.LayerNorm(width)
        self.head = InverseFourierHead(config)

    def forward(self, hidden_states: Tensor, num_frames: Tensor | None = None) -> Tensor:
        """Samples of each row, zero behind its end.

        Args:
            hidden_states (`Tensor` of shape `(B, C, T)`): embedded frames.
            num_frames (`LongTensor` of shape `(B,)`, *optional*): frames of each row; T without it.

        Returns:
            `Tensor` of shape `(B, S)`: samples in [-1, 1], a hop for each of the T frames.
        """
        padding = None
        if num_frames is not None:
            columns = torch.arange(hidden_states.shape[2], device=hidden_states.device)
            padding = (columns >= num_frames[:, None])[:, :, None]
            hidden_states = hidden_states.masked_fill(padding.transpose(1, 2), 0.0)
        hidden_states = self.norm_pre(self.conv_pre(hidden_states).transpose(1, 2))
        hidden_states = _without_padding(hidden_states, padding)
        for layer in self.layers:
            hidden_states = layer(hidden_states, padding)
        if self.upsampler is not None:
            rows, frames, width = hidden_states.shape
            hidden_states = self.upsampler(hidden_states).view(rows, frames * self.rate, width)
            if padding is not None:
                padding = padding.repeat_interleave(self.rate, dim=1)
            hidden_states = _without_padding(hidden_states, padding)
        for layer in self.fine_layers:
            hidden_states = layer(hidden_states, padding)
        return self.head(self.norm_post(hidden_states), padding)


def _without_padding(hidden_states: Tensor, padding: Tensor | None) -> Tensor:
    return hidden_states if padding is None else hidden_states.masked_fill(padding, 0.0)
