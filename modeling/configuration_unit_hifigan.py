"""Configuration of the unit vocoder."""

from __future__ import annotations

import math
from typing import Any

from ..core.errors import ConfigurationError
from .configuration_unit_vocoder import MAX_LAYERS, UnitVocoderConfig

__all__ = ["UnitHifiGanConfig"]

EDGE_KERNEL_SIZE = 7
"""Kernel of the generator's first and last convolution."""

MAX_DILATION = 1000
"""Of a residual layer, which pads with as many samples: 200 times what published generators have."""


class UnitHifiGanConfig(UnitVocoderConfig):
    """Configuration of `UnitHifiGan`.

    The defaults are fairseq's unit vocoder of HuBERT's 100 units: 13 359 810 parameters, one frame per 320
    samples at 16 kHz.

    Args:
        vocab_size (`int`, defaults to 100): units K; ids are unit numbers themselves, without special tokens.
        unit_embed_dim (`int`, defaults to 128): width of unit and speaker embeddings.
        num_speakers (`int`, defaults to 0): rows of the speaker embedding; 0: a single voice, without one.
        sampling_rate (`int`, defaults to 16000): of the audio, in hertz.
        upsample_rates (`Sequence[int]`, defaults to (5, 4, 4, 2, 2)): strides of the transposed convolutions; their
            product is the hop.
        upsample_kernel_sizes (`Sequence[int]`, defaults to (11, 8, 8, 4, 4)): kernels of the transposed convolutions;
            each as large as its rate or larger by an even number.
        upsample_initial_channel (`int`, defaults to 512): channels before the first of them; each halves them.
        resblock_kernel_sizes (`Sequence[int]`, defaults to (3, 7, 11)): odd kernels of the residual blocks behind
            each transposed convolution.
        resblock_dilation_sizes (`Sequence[Sequence[int]]`, defaults to three times (1, 3, 5)): their dilations.
        leaky_relu_slope (`float`, defaults to 0.1): slope of all leaky ReLUs but the last, whose slope is 0.01.
        duration_predictor_hidden_size (`int`, defaults to 128): width of the duration predictor; 0: there is none.
        duration_predictor_kernel_size (`int`, defaults to 3): odd kernel of its two convolutions.
        duration_predictor_dropout (`float`, defaults to 0.5): dropout behind each of them, in training.
        initializer_range (`float`, defaults to 0.01): deviation of the generator's random weights.
        fingerprint (`dict`, *optional*): identity of the units the vocoder was trained on.

    Raises:
        ConfigurationError: a value is of a wrong type or out of range, or sizes do not fit each other.

    Source:
        fairseq `models/text_to_speech/codehifigan.py`.
    """

    model_type = "unit_hifigan"

    upsample_rates: list[int] | tuple[int, ...] = (5, 4, 4, 2, 2)
    upsample_kernel_sizes: list[int] | tuple[int, ...] = (11, 8, 8, 4, 4)
    upsample_initial_channel: int = 512
    resblock_kernel_sizes: list[int] | tuple[int, ...] = (3, 7, 11)
    resblock_dilation_sizes: list[Any] | tuple[Any, ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    leaky_relu_slope: float = 0.1
    initializer_range: float = 0.01

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return math.prod(self.upsample_rates)

    @property
    def samples_per_frame(self) -> int:
        """Samples per frame."""
        return self.hop_length

    @property
    def receptive_field_frames(self) -> tuple[int, int]:
        """Frames before and behind a frame that its samples depend on."""
        edge = EDGE_KERNEL_SIZE // 2
        first, last = -edge, self.hop_length - 1 + edge
        reach = max(
            sum((size // 2) * (dilation + 1) for dilation in dilations)
            for size, dilations in zip(self.resblock_kernel_sizes, self.resblock_dilation_sizes, strict=True)
        )
        for rate, size in zip(reversed(self.upsample_rates), reversed(self.upsample_kernel_sizes), strict=True):
            # Input i of a transposed convolution reaches the outputs from rate * i - padding on, size of them.
            padding = (size - rate) // 2
            first = -((size - 1 - padding - (first - reach)) // rate)
            last = (last + reach + padding) // rate
        return edge - first, last + edge

    def validate_sizes(self) -> None:
        """Check that the sizes fit each other.

        Raises:
            ConfigurationError: they do not.
        """
        super().validate_sizes()
        self._check_at_least("upsample_initial_channel", 1)
        self._check_number("leaky_relu_slope", 1.0)
        self._check_number("initializer_range", 100.0)
        for name in ("upsample_rates", "upsample_kernel_sizes", "resblock_kernel_sizes", "resblock_dilation_sizes"):
            if not isinstance(getattr(self, name), list | tuple):
                raise ConfigurationError(f"{name} is {getattr(self, name)!r:.60}", hint="it is a list")
        self._check_upsampling()
        self._check_residual_blocks()

    def _check_upsampling(self) -> None:
        rates, sizes = self.upsample_rates, self.upsample_kernel_sizes
        if not rates or len(rates) != len(sizes):
            raise ConfigurationError(
                f"upsample_rates {list(rates)!r:.60} and upsample_kernel_sizes {list(sizes)!r:.60} do not fit each "
                "other",
                hint="give one kernel for each rate, and at least one rate",
            )
        for rate, size in zip(rates, sizes, strict=True):
            if type(rate) is not int or type(size) is not int:
                raise ConfigurationError(
                    f"upsample_kernel_sizes has {size!r:.60} for the rate {rate!r:.60}", hint="both are whole numbers"
                )
            if rate < 1 or size < rate or (size - rate) % 2:
                raise ConfigurationError(
                    f"upsample_kernel_sizes has {size} for the rate {rate}",
                    hint="a kernel is as large as its rate, or larger by an even number: then a frame becomes exactly "
                    "so many samples",
                )
        if self.upsample_initial_channel < 2 ** len(rates):
            raise ConfigurationError(
                f"upsample_initial_channel is {self.upsample_initial_channel}, which cannot be halved "
                f"{len(rates)} times",
                hint="each transposed convolution halves the channels",
            )

    def _check_residual_blocks(self) -> None:
        sizes, dilations = self.resblock_kernel_sizes, self.resblock_dilation_sizes
        if not sizes or len(sizes) != len(dilations):
            raise ConfigurationError(
                f"resblock_kernel_sizes {list(sizes)!r:.60} and resblock_dilation_sizes {list(dilations)!r:.60} do "
                "not fit each other",
                hint="give a row of dilations for each kernel, and at least one kernel",
            )
        for size, row in zip(sizes, dilations, strict=True):
            self._check_odd("resblock_kernel_sizes", size)
            if (
                not isinstance(row, list | tuple)
                or not row
                or any(type(each) is not int or not 1 <= each <= MAX_DILATION for each in row)
            ):
                raise ConfigurationError(
                    f"resblock_dilation_sizes has {row!r:.60}",
                    hint=f"a row of whole numbers from 1 to {MAX_DILATION}, one for each layer",
                )
        num_layers = len(self.upsample_rates) * sum(map(len, dilations))
        if num_layers > MAX_LAYERS:
            raise ConfigurationError(
                f"upsample_rates and resblock_dilation_sizes make {num_layers} residual layers",
                hint=f"at most {MAX_LAYERS}: behind each rate there is one for each dilation",
            )
