"""What the configurations of all unit vocoders have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from transformers import PreTrainedConfig

from ..core.errors import ConfigurationError
from .configuration_gslm import without_fetched_attention

__all__ = ["MAX_LAYERS", "UnitVocoderConfig"]

MAX_LAYERS = 100
"""Of a kind in a generator: published ones have less than 50. A stranger's file may claim any number."""

MAX_SAMPLING_RATE = 384_000
"""In hertz; no sound card plays more."""


class UnitVocoderConfig(PreTrainedConfig):
    """Units, voices and duration predictor of a vocoder; a subclass adds its generator.

    Args:
        vocab_size (`int`, defaults to 100): units K; ids are unit numbers themselves, without special tokens.
        unit_embed_dim (`int`, defaults to 128): width of unit and speaker embeddings.
        num_speakers (`int`, defaults to 0): rows of the speaker embedding; 0: a single voice, without one.
        sampling_rate (`int`, defaults to 16000): of the audio, in hertz.
        duration_predictor_hidden_size (`int`, defaults to 128): width of the duration predictor; 0: there is none.
        duration_predictor_kernel_size (`int`, defaults to 3): odd kernel of its two convolutions.
        duration_predictor_dropout (`float`, defaults to 0.5): dropout behind each of them, in training.
        fingerprint (`dict`, *optional*): identity of the units the vocoder was trained on, as the processor states it.

    Raises:
        ConfigurationError: a value is of a wrong type or out of range, or sizes do not fit each other.
    """

    vocab_size: int = 100
    unit_embed_dim: int = 128
    num_speakers: int = 0
    sampling_rate: int = 16000
    duration_predictor_hidden_size: int = 128
    duration_predictor_kernel_size: int = 3
    duration_predictor_dropout: float = 0.5
    fingerprint: dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        self.validate_sizes()

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """A configuration of the values in a file, without what would let transformers fetch code."""
        return super().from_dict(without_fetched_attention(config_dict), **kwargs)

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sampling_rate / self.samples_per_frame

    @property
    @abstractmethod
    def samples_per_frame(self) -> int:
        """Samples that the generator makes of each frame."""

    @property
    def generator_channels(self) -> int:
        """Channels that the generator reads: a unit's embedding, and a speaker's behind it."""
        return self.unit_embed_dim * (2 if self.num_speakers else 1)

    @property
    @abstractmethod
    def receptive_field_frames(self) -> tuple[int, int]:
        """Frames before and behind a frame that its samples depend on.

        Samples of a stretch of speech are those of the whole utterance if that many frames around it are given, so
        sound can be made before the last unit is known.
        """

    @property
    def duration_receptive_field_units(self) -> int:
        """Units on either side of a unit that its predicted duration depends on."""
        return 2 * (self.duration_predictor_kernel_size // 2) if self.duration_predictor_hidden_size else 0

    def validate_sizes(self) -> None:
        """Check that the sizes fit each other.

        Raises:
            ConfigurationError: they do not, or a value is of a wrong type.
        """
        for name in ("vocab_size", "unit_embed_dim"):
            self._check_at_least(name, 1)
        self._check_at_least("sampling_rate", 1, MAX_SAMPLING_RATE)
        for name in ("num_speakers", "duration_predictor_hidden_size"):
            self._check_at_least(name, 0)
        self._check_odd("duration_predictor_kernel_size", self.duration_predictor_kernel_size)
        self._check_number("duration_predictor_dropout", 1.0)
        if self.fingerprint is not None and not isinstance(self.fingerprint, dict):
            raise ConfigurationError(f"fingerprint is {self.fingerprint!r:.60}", hint="it is an object, or absent")

    def _check_at_least(self, name: str, least: int, most: int | None = None) -> None:
        value = getattr(self, name)
        if type(value) is not int or value < least or (most is not None and value > most):
            end = "" if most is None else f" to {most}"
            raise ConfigurationError(f"{name} is {value!r:.60}", hint=f"it is a whole number from {least}{end}")

    def _check_number(self, name: str, most: float) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            raise ConfigurationError(f"{name} is {value!r:.60}", hint=f"it is a number from 0 to {most:g}")

    def _check_odd(self, name: str, size: Any) -> None:
        if type(size) is not int or size < 1 or size % 2 == 0:
            raise ConfigurationError(
                f"{name} has {size!r:.60}", hint="kernels have an odd size, so that lengths are kept"
            )
