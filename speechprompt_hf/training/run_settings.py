"""What shapes a training run of every kind: prompt, optimizer, batches, epochs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from ..core.errors import ConfigurationError

__all__ = ["RunSettings"]

_SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings that classifiers and models that say sequences share; each kind has some defaults of its own.

    Attributes:
        prompt (`str`, defaults to `"deep"`): `"deep"` or `"input"`.
        num_virtual_tokens (`int`): prompt length P.
        prompt_layers (`str`, defaults to `"all"`): layers of a deep prompt: `"all"`, `"lower"`, `"upper"`, with an
            encoder also `"encoder"`, `"decoder"`; as in `SpeechPromptConfig`.
        prompt_init (`str`, defaults to `"normal"`): as in `SpeechPromptConfig`.
        prompt_dropout (`float`, defaults to 0.1): dropout on prompt vectors.
        verbalizer (`str`, defaults to `"learnable"`): `"learnable"`, `"frequency"` or `"random"`.
        unit_dropout (`float`): share of the units left out, anew in every step.
        learning_rate (`float`): AdamW's, at its highest.
        finetune_learning_rate (`float`, defaults to 5e-4): the same for `method="finetune"`.
        schedule (`str`, defaults to `"cosine"`): `"constant"`, `"linear"` or `"cosine"`, after the warm-up.
        warmup_steps (`int`): updates of linear warm-up; a tenth of all updates at most.
        weight_decay (`float`, defaults to 0.0): AdamW's.
        beta2 (`float`, defaults to 0.98): AdamW's second decay, the paper's.
        clip_norm (`float`, defaults to 1.0): highest norm of a gradient, the paper's.
        num_epochs (`int`): the most passes over the training rows.
        patience (`int`, defaults to 10): epochs without a better validation metric before training stops.
        batch_size (`int`, defaults to 16): rows of an update on one process, before accumulation.
        accumulation (`int`, defaults to 1): batches whose gradients are averaged for one update.
        eval_batch_size (`int`): rows of a batch without gradients.
        group_by_length (`bool`, defaults to `True`): put rows of similar lengths into a batch.
        bf16 (`bool`, defaults to `False`): autocast to bfloat16; prompts and verbalizer stay float32.
        gradient_checkpointing (`bool`, defaults to `False`): less memory, a third more time.

    Raises:
        ConfigurationError: a number is out of range, or an input prompt is to be trained in some layers only.
    """

    prompt: Literal["deep", "input"] = "deep"
    num_virtual_tokens: int
    prompt_layers: Literal["all", "lower", "upper", "encoder", "decoder"] = "all"
    prompt_init: Literal["normal", "scaled", "zeros", "vocabulary", "frequent_units", "class_means"] = "normal"
    prompt_dropout: float = 0.1
    verbalizer: Literal["learnable", "frequency", "random"] = "learnable"
    unit_dropout: float
    learning_rate: float
    finetune_learning_rate: float = 5e-4
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup_steps: int
    weight_decay: float = 0.0
    beta2: float = 0.98
    clip_norm: float = 1.0
    num_epochs: int
    patience: int = 10
    batch_size: int = 16
    accumulation: int = 1
    eval_batch_size: int
    group_by_length: bool = True
    bf16: bool = False
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        for name in ("num_epochs", "patience", "batch_size", "accumulation", "eval_batch_size"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} is {getattr(self, name)}", hint="at least 1")
        for name in ("learning_rate", "finetune_learning_rate", "clip_norm"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)}", hint="above 0")
        if self.schedule not in _SCHEDULES:
            raise ConfigurationError(f"schedule is {self.schedule!r}", hint="'constant', 'linear' or 'cosine'")
        if self.prompt == "input" and self.prompt_layers != "all":
            raise ConfigurationError(
                f"prompt_layers is {self.prompt_layers!r} with an input prompt",
                hint="an input prompt stands before all layers: prompt_layers 'all', or a deep prompt",
            )

    def prompt_options(self, method: str) -> dict[str, Any]:
        """The arguments of `from_base` that say what prompt is trained.

        Args:
            method (`str`): what is trained; without a prompt there are none.

        Returns:
            `dict[str, Any]`: name → value.
        """
        if method != "prompt":
            return {}
        names = ("prompt", "num_virtual_tokens", "prompt_layers", "prompt_init", "prompt_dropout")
        return {name: getattr(self, name) for name in names}

    def trainer_options(self, method: str) -> dict[str, Any]:
        """The arguments for `transformers.TrainingArguments`.

        Args:
            method (`str`): what is trained.

        Returns:
            `dict[str, Any]`: name → value.
        """
        return {
            "learning_rate": self.finetune_learning_rate if method == "finetune" else self.learning_rate,
            "lr_scheduler_type": _SCHEDULES[self.schedule],
            "warmup_steps": self.warmup_steps,
            "weight_decay": self.weight_decay,
            "adam_beta2": self.beta2,
            "max_grad_norm": self.clip_norm,
            "num_train_epochs": self.num_epochs,
            "per_device_train_batch_size": self.batch_size,
            "per_device_eval_batch_size": self.eval_batch_size,
            "gradient_accumulation_steps": self.accumulation,
            "train_sampling_strategy": "group_by_length" if self.group_by_length else "random",
            "bf16": self.bf16,
        }

    @classmethod
    def field_names(cls) -> tuple[str, ...]:
        """Names of all settings."""
        return tuple(field.name for field in fields(cls))
