"""How adapters that say sequences are trained."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from ..core.errors import ConfigurationError
from .settings import check_run_settings, prompt_options, trainer_options

__all__ = ["SequenceMethod", "SequenceTrainingSettings", "check_sequence_method"]

SequenceMethod = Literal["prompt", "finetune"]


def check_sequence_method(method: str) -> None:
    """Refuse a method that trains no model that says sequences.

    Raises:
        ConfigurationError: it is none of `SequenceMethod`.
    """
    allowed = get_args(SequenceMethod)
    if method not in allowed:
        raise ConfigurationError(f"the method {method!r} generates no sequences", hint=" or ".join(map(repr, allowed)))


@dataclass(frozen=True)
class SequenceTrainingSettings:
    """Everything that shapes a run that trains sequences but the data, the base and the seed.

    Attributes:
        prompt (`str`, defaults to `"deep"`): `"deep"` or `"input"`.
        num_virtual_tokens (`int`, defaults to 180): prompt length P, the paper's for sequences.
        prompt_layers (`str`, defaults to `"all"`): as in `TrainingSettings`.
        prompt_init (`str`, defaults to `"normal"`): as in `SpeechPromptConfig`, but for `"class_means"`.
        prompt_dropout (`float`, defaults to 0.1): dropout on prompt vectors.
        verbalizer (`str`, defaults to `"learnable"`): `"learnable"`, `"frequency"` or `"random"`.
        label_feedback (`str`, *optional*): what is read of a said token: `"token"`, `"mixture"` or `"learned"`; by
            default `"learned"` with a learnable verbalizer, else `"token"`.
        unit_dropout (`float`, defaults to 0.1): share of the units left out, anew in every step.
        learning_rate (`float`, defaults to 5e-3): AdamW's, at its highest.
        finetune_learning_rate (`float`, defaults to 5e-4): the same for `method="finetune"`.
        schedule (`str`, defaults to `"cosine"`): `"constant"`, `"linear"` or `"cosine"`, after the warm-up.
        warmup_steps (`int`, defaults to 100): updates of linear warm-up.
        weight_decay (`float`, defaults to 0.0): AdamW's.
        beta2 (`float`, defaults to 0.98): AdamW's second decay, the paper's.
        clip_norm (`float`, defaults to 1.0): highest norm of a gradient, the paper's.
        num_epochs (`int`, defaults to 50): the most passes over the training rows.
        patience (`int`, defaults to 10): epochs without a better validation metric before training stops.
        batch_size (`int`, defaults to 16): rows of an update on one process, before accumulation.
        accumulation (`int`, defaults to 1): batches whose gradients are averaged for one update.
        eval_batch_size (`int`, defaults to 32): rows of a batch that is answered.
        num_beams (`int`, defaults to 1): beams of the answers; 1 is the most probable token after another.
        group_by_length (`bool`, defaults to `True`): put rows of similar lengths into a batch.
        bf16 (`bool`, defaults to `False`): autocast to bfloat16; prompts and verbalizer stay float32.
        gradient_checkpointing (`bool`, defaults to `False`): less memory, a third more time.

    Raises:
        ConfigurationError: a number is out of range, the prompt is to begin with means of classes, or an input prompt
            is to be trained in some layers only.
    """

    prompt: Literal["deep", "input"] = "deep"
    num_virtual_tokens: int = 180
    prompt_layers: Literal["all", "lower", "upper", "encoder", "decoder"] = "all"
    prompt_init: Literal["normal", "scaled", "zeros", "vocabulary", "frequent_units"] = "normal"
    prompt_dropout: float = 0.1
    verbalizer: Literal["learnable", "frequency", "random"] = "learnable"
    label_feedback: Literal["token", "mixture", "learned"] | None = None
    unit_dropout: float = 0.1
    learning_rate: float = 5e-3
    finetune_learning_rate: float = 5e-4
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup_steps: int = 100
    weight_decay: float = 0.0
    beta2: float = 0.98
    clip_norm: float = 1.0
    num_epochs: int = 50
    patience: int = 10
    batch_size: int = 16
    accumulation: int = 1
    eval_batch_size: int = 32
    num_beams: int = 1
    group_by_length: bool = True
    bf16: bool = False
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        check_run_settings(self)
        if self.num_beams < 1:
            raise ConfigurationError(f"num_beams is {self.num_beams}", hint="at least 1")
        allowed = ("normal", "scaled", "zeros", "vocabulary", "frequent_units")
        if self.prompt_init not in allowed:
            raise ConfigurationError(
                f"prompt_init is {self.prompt_init!r} for a task without classes", hint=f"one of {', '.join(allowed)}"
            )

    def model_options(self, method: SequenceMethod) -> dict[str, Any]:
        """The arguments for `SpeechPromptForSequenceGeneration.from_base`.

        Args:
            method (`str`): what is trained.

        Returns:
            `dict[str, Any]`: name → value.
        """
        options: dict[str, Any] = {
            "method": method,
            "verbalizer": self.verbalizer,
            "label_feedback": self.label_feedback,
            "unit_dropout": self.unit_dropout,
        }
        return options | (prompt_options(self) if method == "prompt" else {})

    def trainer_options(self, method: SequenceMethod) -> dict[str, Any]:
        """The arguments for `transformers.TrainingArguments`.

        Args:
            method (`str`): what is trained.

        Returns:
            `dict[str, Any]`: name → value.
        """
        return trainer_options(self, self.finetune_learning_rate if method == "finetune" else self.learning_rate)

    @classmethod
    def field_names(cls) -> tuple[str, ...]:
        """Names of all settings."""
        return tuple(field.name for field in fields(cls))
