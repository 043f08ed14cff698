"""How adapters that say sequences are trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from ..core.errors import ConfigurationError
from .run_settings import RunSettings

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


@dataclass(frozen=True, kw_only=True)
class SequenceTrainingSettings(RunSettings):
    """Everything that shapes a run that trains sequences but data, base and seed; other settings: `RunSettings`.

    Attributes:
        num_virtual_tokens (`int`, defaults to 180): prompt length P, the paper's for sequences.
        prompt_init (`str`, defaults to `"normal"`): as in `SpeechPromptConfig`, but for `"class_means"`.
        label_feedback (`str`, *optional*): what is read of a said token: `"token"`, `"mixture"` or `"learned"`; by
            default `"learned"` with a learnable verbalizer, else `"token"`.
        unit_dropout (`float`, defaults to 0.1): share of the units left out, anew in every step.
        learning_rate (`float`, defaults to 5e-3): AdamW's, at its highest.
        warmup_steps (`int`, defaults to 100): updates of linear warm-up.
        num_epochs (`int`, defaults to 50): the most passes over the training rows.
        eval_batch_size (`int`, defaults to 32): rows of a batch that is answered.
        num_beams (`int`, defaults to 1): beams of the answers; 1 is the most probable token after another.

    Raises:
        ConfigurationError: a number is out of range, the prompt is to begin with means of classes, or an input prompt
            is to be trained in some layers only.
    """

    num_virtual_tokens: int = 180
    label_feedback: Literal["token", "mixture", "learned"] | None = None
    unit_dropout: float = 0.1
    learning_rate: float = 5e-3
    warmup_steps: int = 100
    num_epochs: int = 50
    eval_batch_size: int = 32
    num_beams: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
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
        return {
            "method": method,
            "verbalizer": self.verbalizer,
            "label_feedback": self.label_feedback,
            "unit_dropout": self.unit_dropout,
            **self.prompt_options(method),
        }
