"""How classifiers are trained: chosen once on validation speakers, kept for all tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ..core.errors import ConfigurationError
from ..modeling.configuration_speechprompt import check_verbalizer_size
from .run_settings import RunSettings

__all__ = ["Method", "TrainingSettings"]

Method = Literal["prompt", "finetune", "probe"]


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(RunSettings):
    """Everything that shapes a training run but the data, the base and the seed; the other settings: `RunSettings`.

    Attributes:
        num_virtual_tokens (`int`, defaults to 5): prompt length P.
        readout (`str`, defaults to `"pooled"`): `"separator"` (the paper's) or `"pooled"`.
        verbalizer_hidden_size (`int`, defaults to 0): detectors between the language model's logits and the labels of
            a learnable verbalizer; 0: a linear one, the paper's. A probe, which reads hidden states, is linear.
        verbalizer_dropout (`float`, defaults to 0.0): dropout on class scores.
        unit_dropout (`float`, defaults to 0.3): share of the units left out, anew in every step.
        label_smoothing (`float`, defaults to 0.0): share of the target that all classes have alike; for several labels
            that are read at once the smoothed loss is normalised over the known sequences, several that are read one
            after another cannot be smoothed.
        learning_rate (`float`, defaults to 1e-2): AdamW's, at its highest.
        warmup_steps (`int`, defaults to 20): updates of linear warm-up.
        num_epochs (`int`, defaults to 25): the most passes over the training rows.
        eval_batch_size (`int`, defaults to 64): rows of a batch without gradients.

    Raises:
        ConfigurationError: a number is out of range, an input prompt is to be trained in some layers only, or a fixed
            verbalizer is to have two layers.
    """

    num_virtual_tokens: int = 5
    readout: Literal["separator", "pooled"] = "pooled"
    verbalizer_hidden_size: int = 0
    verbalizer_dropout: float = 0.0
    unit_dropout: float = 0.3
    label_smoothing: float = 0.0
    learning_rate: float = 1e-2
    warmup_steps: int = 20
    num_epochs: int = 25
    eval_batch_size: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
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
        return options | self.prompt_options(method)

    def trainer_options(self, method: str) -> dict[str, Any]:
        """The arguments for `transformers.TrainingArguments`, with smoothed labels.

        Args:
            method (`str`): what is trained.

        Returns:
            `dict[str, Any]`: name → value.
        """
        return {**super().trainer_options(method), "label_smoothing_factor": self.label_smoothing}
