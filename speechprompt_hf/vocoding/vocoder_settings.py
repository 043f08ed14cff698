"""Settings of the training of a unit vocoder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ..core.errors import ConfigurationError
from ..pretraining.pretraining_settings import check_at_least

__all__ = ["VocoderTrainingConfig"]


@dataclass(frozen=True)
class VocoderTrainingConfig:
    """Settings of a training; the number of updates is none of them, so that a run can be made longer.

    Args:
        architecture (`str`, *optional*, defaults to `"vocos"`): `"vocos"` ([`UnitVocos`]) or `"hifigan"`
            ([`UnitHifiGan`]).
        batch_size (`int`, *optional*, defaults to 16): segments of an update, over all processes.
        segment_frames (`int`, *optional*, defaults to 100): frames of a segment; shorter recordings are taken whole.
        adversarial_start (`int`, *optional*, defaults to 0): the update from which discriminators train and judge;
            before, the mel loss alone leads.
        discriminator_frames (`int`, *optional*, defaults to 32): frames of each segment that discriminators read.
        periods (`tuple[int, ...]`, *optional*): of the period discriminators, HiFi-GAN's by default.
        num_scales (`int`, *optional*, defaults to 3): scale discriminators.
        spectrum_windows (`tuple[int, ...]`, *optional*): windows of discriminators of spectra; none by default.
        discriminator_width (`float`, *optional*, defaults to 1.0): share of the originals' channels.
        mel_windows (`tuple[int, ...]`, *optional*, defaults to (1024,)): samples of each resolution of the mel loss;
            the hop is a quarter.
        mel_weight (`float`, *optional*, defaults to 45.0): of the mel loss.
        feature_weight (`float`, *optional*, defaults to 2.0): of the feature matching loss.
        duration_weight (`float`, *optional*, defaults to 1.0): of the duration predictor's loss.
        learning_rate (`float`, *optional*, defaults to 2e-4): of both optimizers, AdamW with betas 0.8 and 0.99.
        discriminator_learning_rate (`float`, *optional*): of the discriminators, the same by default.
        decay_per_1000 (`float`, *optional*, defaults to 0.98): the rates shrink by this factor every 1000 updates.
        warm_up_steps (`int`, *optional*, defaults to 0): updates in which the generator's rate rises.
        weight_decay (`float`, *optional*, defaults to 0.01): of AdamW.
        clip_norm (`float`, *optional*, defaults to 1000.0): bound of the gradients' norm.
        seed (`int`, *optional*, defaults to 0): of weights, segments and dropout.
        checkpoint_every (`int`, *optional*, defaults to 200): updates between checkpoints.
        validate_every (`int`, *optional*, defaults to 500): updates between validations.
        snapshot_every (`int`, *optional*, defaults to 0): updates between vocoders that are kept in `snapshots/`, for
            a learning curve; 0: none.
        model (`dict`, *optional*): arguments of [`UnitVocosConfig`] or [`UnitHifiGanConfig`].

    Raises:
        ConfigurationError: a number is too low, or there is no such architecture.

    Source:
        HiFi-GAN (Kong et al. 2020), `config_v1.json`: rates, betas and weights of the losses.
    """

    architecture: Literal["vocos", "hifigan"] = "vocos"
    batch_size: int = 16
    segment_frames: int = 100
    adversarial_start: int = 0
    discriminator_frames: int = 32
    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    num_scales: int = 3
    spectrum_windows: tuple[int, ...] = ()
    discriminator_width: float = 1.0
    mel_windows: tuple[int, ...] = (1024,)
    mel_weight: float = 45.0
    feature_weight: float = 2.0
    duration_weight: float = 1.0
    learning_rate: float = 2e-4
    discriminator_learning_rate: float | None = None
    decay_per_1000: float = 0.98
    warm_up_steps: int = 0
    weight_decay: float = 0.01
    clip_norm: float = 1000.0
    seed: int = 0
    checkpoint_every: int = 200
    validate_every: int = 500
    snapshot_every: int = 0
    model: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.architecture not in ("vocos", "hifigan"):
            raise ConfigurationError(f"architecture is {self.architecture!r}", hint="vocos or hifigan")
        check_at_least(self, batch_size=1, segment_frames=1, discriminator_frames=1, adversarial_start=0)
        check_at_least(self, num_scales=0, warm_up_steps=0, checkpoint_every=1, validate_every=1, snapshot_every=0)
        check_at_least(self, mel_weight=0, feature_weight=0, duration_weight=0)
        for name in ("learning_rate", "decay_per_1000", "discriminator_width", "clip_norm"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)!r}", hint="give more than 0")
        if not self.mel_windows or min(self.mel_windows) < 64:
            raise ConfigurationError(
                f"mel_windows is {self.mel_windows!r}", hint="give at least one window, of 64 samples or more"
            )
        if not (self.periods or self.num_scales or self.spectrum_windows):
            raise ConfigurationError("there is no discriminator", hint="give periods, num_scales or spectrum_windows")

    def rates(self, step: int) -> tuple[float, float]:
        """Learning rates of the generator and of the discriminators in an update."""
        decay = self.decay_per_1000 ** (step / 1000)
        warm_up = min(1.0, (step + 1) / self.warm_up_steps) if self.warm_up_steps else 1.0
        other = self.discriminator_learning_rate
        return self.learning_rate * decay * warm_up, (self.learning_rate if other is None else other) * decay
