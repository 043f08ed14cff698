"""Settings of the pretraining of unit language models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ..core.errors import ConfigurationError

__all__ = ["PretrainingConfig", "check_at_least"]


def _small_model() -> dict[str, Any]:
    return {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}


def check_at_least(settings: Any, **least: int) -> None:
    """Refuse numbers that are too low.

    Args:
        settings (dataclass instance): what has these fields.
        least (`int`): the lowest value of each.

    Raises:
        ConfigurationError: a field is lower; it is named.
    """
    for name, bound in least.items():
        if not getattr(settings, name) >= bound:
            raise ConfigurationError(f"{name} is {getattr(settings, name)!r}", hint=f"give {bound} or more")


@dataclass(frozen=True)
class PretrainingConfig:
    """Settings of a pretraining; the defaults made the embedded backbone.

    Args:
        num_steps (`int`, *optional*, defaults to 1500): updates.
        tokens_per_step (`int`, *optional*, defaults to 6144): bound of a step's tokens, padding included, over all
            processes.
        max_tokens (`int`, *optional*, defaults to 512): longest row; longer utterances are cut into several rows.
        break_mode (`str`, *optional*, defaults to `"utterance"`): `"utterance"` gives each utterance a row
            `</s> units </s>`; `"packed"` puts several of them into a row of `max_tokens`, of which none sees another;
            `"stream"` cuts rows of `max_tokens` out of all utterances joined by `</s>`.
        learning_rate (`float`, *optional*, defaults to 2e-3): peak, after a linear warm-up, before a cosine.
        warm_up_steps (`int`, *optional*, defaults to 100): updates of the warm-up.
        weight_decay (`float`, *optional*, defaults to 0.05): of AdamW (betas 0.9, 0.98) on matrices.
        clip_norm (`float`, *optional*, defaults to 1.0): bound of the gradient's norm.
        bf16 (`bool`, *optional*, defaults to `True`): autocast to bfloat16, on devices that compute in it.
        replaced_units (`float`, *optional*, defaults to 0.0): share of the units that are replaced by random ones
            where the model reads them; it still predicts the true ones.
        left_out_units (`float`, *optional*, defaults to 0.0): share of the units that are left out of a row, anew in
            every update.
        seed (`int`, *optional*, defaults to 0): of weights, order, dropout and disturbances.
        checkpoint_every (`int`, *optional*, defaults to 100): updates between checkpoints.
        validate_every (`int`, *optional*, defaults to 250): updates between validations.
        model (`dict`, *optional*): arguments of [`GSLMConfig`]; 4 layers of width 256 by default.

    Raises:
        ConfigurationError: a share is not in [0, 1), a number of updates or tokens is too low, or there is no such
            mode.
    """

    num_steps: int = 1500
    tokens_per_step: int = 6144
    max_tokens: int = 512
    break_mode: Literal["utterance", "packed", "stream"] = "utterance"
    learning_rate: float = 2e-3
    warm_up_steps: int = 100
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    bf16: bool = True
    replaced_units: float = 0.0
    left_out_units: float = 0.0
    seed: int = 0
    checkpoint_every: int = 100
    validate_every: int = 250
    model: dict[str, Any] = field(default_factory=_small_model)

    def __post_init__(self) -> None:
        if self.break_mode not in ("utterance", "packed", "stream"):
            raise ConfigurationError(f"break_mode is {self.break_mode!r}", hint="utterance, packed or stream")
        # A row of a GSLM is a start, units and an end.
        check_at_least(self, num_steps=1, tokens_per_step=1, max_tokens=3, checkpoint_every=1, validate_every=1)
        for name in ("replaced_units", "left_out_units"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigurationError(
                    f"{name} is {getattr(self, name)!r}", hint="give a share of the units: at least 0, less than 1"
                )

    def rate(self, step: int) -> float:
        """Learning rate of an update."""
        if step < self.warm_up_steps:
            return self.learning_rate * (step + 1) / self.warm_up_steps
        share = (step - self.warm_up_steps) / max(1, self.num_steps - self.warm_up_steps)
        return self.learning_rate * (0.02 + 0.98 * 0.5 * (1 + float(np.cos(np.pi * min(1.0, share)))))
