"""How adapters are trained: chosen once on validation speakers, kept for all tasks."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from ..core.errors import ConfigurationError
from ..modeling.configuration_speechprompt import check_verbalizer_size

if TYPE_CHECKING:
    from .sequence_settings import SequenceTrainingSettings

__all__ = ["Method", "TrainingSettings", "check_run_settings", "prompt_options", "trainer_options"]

Method = Literal["prompt", "finetune", "probe"]
_SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}


def check_run_settings(settings: TrainingSettings | SequenceTrainingSettings) -> None:
    """Refuse what no run can have.

    Args:
        settings (`TrainingSettings | SequenceTrainingSettings`): of any kind of run.

    Raises:
        ConfigurationError: a number of updates is out of range, there is no such schedule, or an input prompt is to
            be trained in some layers only.
    """
    for name in ("num_epochs", "patience", "batch_size", "accumulation", "eval_batch_size"):
        if getattr(settings, name) < 1:
            raise ConfigurationError(f"{name} is {getattr(settings, name)}", hint="at least 1")
    for name in ("learning_rate", "finetune_learning_rate", "clip_norm"):
        if not getattr(settings, name) > 0:
            raise ConfigurationError(f"{name} is {getattr(settings, name)}", hint="above 0")
    if settings.schedule not in _SCHEDULES:
        raise ConfigurationError(f"schedule is {settings.schedule!r}", hint="'constant', 'linear' or 'cosine'")
    if settings.prompt == "input" and settings.prompt_layers != "all":
        raise ConfigurationError(
            f"prompt_layers is {settings.prompt_layers!r} with an input prompt",
            hint="an input prompt stands before all layers: prompt_layers 'all', or a deep prompt",
        )


def prompt_options(settings: TrainingSettings | SequenceTrainingSettings) -> dict[str, Any]:
    """The arguments of `from_base` that say what prompt is trained.

    Args:
        settings (`TrainingSettings | SequenceTrainingSettings`): of any kind of run.

    Returns:
        `dict[str, Any]`: name → value.
    """
    names = ("prompt", "num_virtual_tokens", "prompt_layers", "prompt_init", "prompt_dropout")
    return {name: getattr(settings, name) for name in names}


def trainer_options(settings: TrainingSettings | SequenceTrainingSettings, learning_rate: float) -> dict[str, Any]:
    """The arguments for `transformers.TrainingArguments` that say how a run's updates are made.

    Args:
        settings (`TrainingSettings | SequenceTrainingSettings`): of any kind of run.
        learning_rate (`float`): that of the method.

    Returns:
        `dict[str, Any]`: name → value.
    """
    return {
        "learning_rate": learning_rate,
        "lr_scheduler_type": _SCHEDULES[settings.schedule],
        "warmup_steps": settings.warmup_steps,
        "weight_decay": settings.weight_decay,
        "adam_beta2": settings.beta2,
        "max_grad_norm": settings.clip_norm,
        "num_train_epochs": settings.num_epochs,
        "per_device_train_batch_size": settings.batch_size,
        "per_device_eval_batch_size": settings.eval_batch_size,
        "gradient_accumulation_steps": settings.accumulation,
        "train_sampling_strategy": "group_by_length" if settings.group_by_length else "random",
        "bf16": settings.bf16,
    }


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that shapes a training run but the data, the base and the seed.

    Attributes:
        prompt (`str`, defaults to `"deep"`): `"deep"` or `"input"`.
        num_virtual_tokens (`int`, defaults to 5): prompt length P.
        prompt_layers (`str`, defaults to `"all"`): layers of a deep prompt: `"all"`, `"lower"`, `"upper"`, with an
            encoder also `"encoder"`, `"decoder"`; as in `SpeechPromptConfig`.
        prompt_init (`str`, defaults to `"normal"`): as in `SpeechPromptConfig`.
        prompt_dropout (`float`, defaults to 0.1): dropout on prompt vectors.
        verbalizer (`str`, defaults to `"learnable"`): `"learnable"`, `"frequency"` or `"random"`.
        readout (`str`, defaults to `"pooled"`): `"separator"` (the paper's) or `"pooled"`.
        verbalizer_hidden_size (`int`, defaults to 0): detectors between the language model's logits and the labels of
            a learnable verbalizer; 0: a linear one, the paper's. A probe, which reads hidden states, is linear.
        verbalizer_dropout (`float`, defaults to 0.0): dropout on class scores.
        unit_dropout (`float`, defaults to 0.3): share of the units left out, anew in every step.
        label_smoothing (`float`, defaults to 0.0): share of the target that all classes have alike; for several labels
            that are read at once the smoothed loss is normalised over the known sequences, several that are read one
            after another cannot be smoothed.
        learning_rate (`float`, defaults to 1e-2): AdamW's, at its highest.
        finetune_learning_rate (`float`, defaults to 5e-4): the same for `method="finetune"`.
        schedule (`str`, defaults to `"cosine"`): `"constant"`, `"linear"` or `"cosine"`, after the warm-up.
        warmup_steps (`int`, defaults to 20): updates of linear warm-up.
        weight_decay (`float`, defaults to 0.0): AdamW's.
        beta2 (`float`, defaults to 0.98): AdamW's second decay, the paper's.
        clip_norm (`float`, defaults to 1.0): highest norm of a gradient, the paper's.
        num_epochs (`int`, defaults to 25): the most passes over the training rows.
        patience (`int`, defaults to 10): epochs without a better validation accuracy before training stops.
        batch_size (`int`, defaults to 16): rows of an update on one process, before accumulation.
        accumulation (`int`, defaults to 1): batches whose gradients are averaged for one update.
        eval_batch_size (`int`, defaults to 64): rows of a batch without gradients.
        group_by_length (`bool`, defaults to `True`): put rows of similar lengths into a batch.
        bf16 (`bool`, defaults to `False`): autocast to bfloat16; prompts and verbalizer stay float32.
        gradient_checkpointing (`bool`, defaults to `False`): less memory, a third more time.

    Raises:
        ConfigurationError: a number is out of range, an input prompt is to be trained in some layers only, or a fixed
            verbalizer is to have two layers.
    """

    prompt: Literal["deep", "input"] = "deep"
    num_virtual_tokens: int = 5
    prompt_layers: Literal["all", "lower", "upper", "encoder", "decoder"] = "all"
    prompt_init: Literal["normal", "scaled", "zeros", "vocabulary", "frequent_units", "class_means"] = "normal"
    prompt_dropout: float = 0.1
    verbalizer: Literal["learnable", "frequency", "random"] = "learnable"
    readout: Literal["separator", "pooled"] = "pooled"
    verbalizer_hidden_size: int = 0
    verbalizer_dropout: float = 0.0
    unit_dropout: float = 0.3
    label_smoothing: float = 0.0
    learning_rate: float = 1e-2
    finetune_learning_rate: float = 5e-4
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup_steps: int = 20
    weight_decay: float = 0.0
    beta2: float = 0.98
    clip_norm: float = 1.0
    num_epochs: int = 25
    patience: int = 10
    batch_size: int = 16
    accumulation: int = 1
    eval_batch_size: int = 64
    group_by_length: bool = True
    bf16: bool = False
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        check_run_settings(self)
        if not 0 <= self.label_smoothing < 1:
            raise ConfigurationError(f"label_smoothing is {self.label_smoothing}", hint="a share in [0, 1)")
        check_verbalizer_size(self.verbalizer_hidden_size, self.verbalizer)

    def model_options(self, method: Method) -> dict[str, Any]:
        """The arguments for `SpeechPromptForAudioClassification.from_base`.

        Args:
            method (`str`): what is trained.

        Returns:
            `dict[str, Any]`: name → value.
        """
        options: dict[str, Any] = {
            "method": method,
            "verbalizer": self.verbalizer,
            "verbalizer_dropout": self.verbalizer_dropout,
            "unit_dropout": self.unit_dropout,
        }
        if method != "probe":
            options["readout"] = self.readout
            options["verbalizer_hidden_size"] = self.verbalizer_hidden_size
        return options | (prompt_options(self) if method == "prompt" else {})

    def trainer_options(self, method: Method) -> dict[str, Any]:
        """The arguments for `transformers.TrainingArguments`.

        Args:
            method (`str`): what is trained.

        Returns:
            `dict[str, Any]`: name → value.
        """
        rate = self.finetune_learning_rate if method == "finetune" else self.learning_rate
        return {**trainer_options(self, rate), "label_smoothing_factor": self.label_smoothing}

    @classmethod
    def field_names(cls) -> tuple[str, ...]:
        """Names of all settings."""
        return tuple(field.name for field in fields(cls))
