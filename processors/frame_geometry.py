"""How many frames an encoder makes of how many samples, from its kernels and strides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["FrameGeometry"]


@dataclass(frozen=True)
class FrameGeometry:
    """Frame arithmetic of a stack of convolutions without padding.

    Args:
        kernels (`tuple[int, ...]`): kernel sizes, first layer first.
        strides (`tuple[int, ...]` of the same length): strides.
    """

    kernels: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def from_config(cls, config: Any) -> FrameGeometry:
        """The geometry of a HuBERT-like encoder (`conv_kernel`, `conv_stride`)."""
        return cls(tuple(config.conv_kernel), tuple(config.conv_stride))

    @property
    def min_samples(self) -> int:
        """Samples of one frame: the receptive field (400 for HuBERT base)."""
        samples = 1
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            samples = (samples - 1) * stride + kernel
        return samples

    @property
    def hop_samples(self) -> int:
        """Samples from one frame to the next (320 for HuBERT base)."""
        hop = 1
        for stride in self.strides:
            hop *= stride
        return hop

    def num_frames(self, num_samples: int) -> int:
        """Frames T of `num_samples` samples; 0 for less than one receptive field."""
        return self.frames_after(num_samples, len(self.kernels))

    def frames_after(self, num_samples: int, num_layers: int) -> int:
        """Frames after the first `num_layers` convolutions."""
        frames = num_samples
        for kernel, stride in zip(self.kernels[:num_layers], self.strides[:num_layers], strict=True):
            if frames < kernel:
                return 0
            frames = (frames - kernel) // stride + 1
        return frames

    def num_frames_of_chunks(self, chunks: Sequence[tuple[int, int]]) -> int:
        """Frames of one recording that is encoded chunk by chunk."""
        return sum(self.num_frames(stop - start) for start, stop in chunks)
