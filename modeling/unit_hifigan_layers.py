"""The parts of the unit vocoder: the duration predictor, and the HiFi-GAN generator for rows of different lengths."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .configuration_unit_hifigan import EDGE_KERNEL_SIZE, UnitHifiGanConfig
from .configuration_unit_vocoder import UnitVocoderConfig

__all__ = ["DurationPredictor", "HifiGanGenerator", "HifiGanResidualBlock"]


class DurationPredictor(nn.Module):
    """Two convolutions over merged units that predict the logarithm of each unit's duration plus one.

    Args:
        config (`UnitVocoderConfig`): sizes.

    Source:
        fairseq `VariancePredictor`, `models/text_to_speech/fastspeech2.py`.
    """

    def __init__(self, config: UnitVocoderConfig) -> None:
        super().__init__()
        width, size = config.duration_predictor_hidden_size, config.duration_predictor_kernel_size
        self.conv1 = nn.Conv1d(config.unit_embed_dim, width, size, padding=size // 2)
        self.ln1 = nn.LayerNorm(width)
        self.conv2 = nn.Conv1d(width, width, size, padding=size // 2)
        self.ln2 = nn.LayerNorm(width)
        self.proj = nn.Linear(width, 1)
        self.dropout = nn.Dropout(config.duration_predictor_dropout)

    def forward(self, hidden_states: Tensor, padding: Tensor | None = None) -> Tensor:
        """Logarithms of durations plus one.

        Args:
            hidden_states (`Tensor` of shape `(B, U, D)`): unit embeddings.
            padding (`BoolTensor` of shape `(B, U)`, *optional*): `True` behind the end of each row.

        Returns:
            `Tensor` of shape `(B, U)`; anything where there is padding.
        """
        for conv, norm in ((self.conv1, self.ln1), (self.conv2, self.ln2)):
            if padding is not None:
                hidden_states = hidden_states.masked_fill(padding[:, :, None], 0.0)
            hidden_states = F.relu(conv(hidden_states.transpose(1, 2))).transpose(1, 2)
            hidden_states = self.dropout(norm(hidden_states))
        return self.proj(hidden_states).squeeze(-1)


class HifiGanResidualBlock(nn.Module):
    """Pairs of a dilated and a plain convolution, each pair with a residual connection.

    Args:
        channels (`int`): channels in and out.
        kernel_size (`int`): odd.
        dilations (`Sequence[int]`): one for each pair.
        slope (`float`): of the leaky ReLUs.
    """

    def __init__(self, channels: int, kernel_size: int, dilations: Sequence[int], slope: float) -> None:
        super().__init__()
        self.slope = slope
        self.convs1 = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel_size, dilation=dilation, padding=kernel_size // 2 * dilation)
            for dilation in dilations
        )
        self.convs2 = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2) for _ in dilations
        )

    def forward(self, hidden_states: Tensor, padding: Tensor | None = None) -> Tensor:
        """The block's output, which is zero where there is padding.

        Args:
            hidden_states (`Tensor` of shape `(B, C, T)`): zero where there is padding.
            padding (`BoolTensor` of shape `(B, 1, T)`, *optional*): `True` behind the end of each row.

        Returns:
            `Tensor` of shape `(B, C, T)`.
        """
        for conv1, conv2 in zip(self.convs1, self.convs2, strict=True):
            residual = hidden_states
            hidden_states = _without_padding(conv1(F.leaky_relu(hidden_states, self.slope)), padding)
            hidden_states = conv2(F.leaky_relu(hidden_states, self.slope))
            hidden_states = _without_padding(hidden_states + residual, padding)
        return hidden_states


class HifiGanGenerator(nn.Module):
    """Embedded frames to samples.

    A convolution sees zeros beyond the ends of a row that is alone. Its bias makes something else of a padded column,
    which the next one would see, so padding is zeroed behind every layer: each row's samples are those of the row
    alone. Rows of one length need no zeroing and get none.

    Args:
        config (`UnitHifiGanConfig`): sizes.

    Source:
        fairseq `Generator`, `models/text_to_speech/hifigan.py`, with weight norm folded into the weights.
    """

    def __init__(self, config: UnitHifiGanConfig) -> None:
        super().__init__()
        self.slope = config.leaky_relu_slope
        self.rates = tuple(config.upsample_rates)
        self.num_blocks = len(config.resblock_kernel_sizes)
        channels = config.upsample_initial_channel
        self.conv_pre = nn.Conv1d(config.generator_channels, channels, EDGE_KERNEL_SIZE, padding=EDGE_KERNEL_SIZE // 2)
        self.upsampler = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        for rate, size in zip(self.rates, config.upsample_kernel_sizes, strict=True):
            self.upsampler.append(
                nn.ConvTranspose1d(channels, channels // 2, size, stride=rate, padding=(size - rate) // 2)
            )
            channels //= 2
            self.resblocks.extend(
                HifiGanResidualBlock(channels, block_size, dilations, self.slope)
                for block_size, dilations in zip(
                    config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True
                )
            )
        self.conv_post = nn.Conv1d(channels, 1, EDGE_KERNEL_SIZE, padding=EDGE_KERNEL_SIZE // 2)

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
            padding = (columns >= num_frames[:, None])[:, None]
            hidden_states = hidden_states.masked_fill(padding, 0.0)
        hidden_states = _without_padding(self.conv_pre(hidden_states), padding)
        for index, (rate, upsample) in enumerate(zip(self.rates, self.upsampler, strict=True)):
            if padding is not None:
                padding = padding.repeat_interleave(rate, dim=2)
            hidden_states = _without_padding(upsample(F.leaky_relu(hidden_states, self.slope)), padding)
            first = index * self.num_blocks
            total = self.resblocks[first](hidden_states, padding)
            for block in range(first + 1, first + self.num_blocks):
                total = total + self.resblocks[block](hidden_states, padding)
            hidden_states = total / self.num_blocks
        # The default slope of torch, not the configured one, as in the original.
        samples = _without_padding(self.conv_post(F.leaky_relu(hidden_states)), padding)
        return torch.tanh(samples).squeeze(1)


def _without_padding(hidden_states: Tensor, padding: Tensor | None) -> Tensor:
    """Zero the padding of a convolution's fresh output, in place, as its gradient does not need it."""
    return hidden_states if padding is None else hidden_states.masked_fill_(padding, 0.0)
