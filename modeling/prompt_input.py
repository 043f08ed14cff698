"""Input prompts: trained vectors before the tokens. On disk they are PEFT's prompt tuning."""

from __future__ import annotations

from typing import Any

import torch
from peft import PromptTuningConfig
from torch import Tensor, nn

from ..core.errors import AdapterError
from .configuration_speechprompt import SpeechPromptConfig
from .prompt_base import PromptModule
from .prompt_initialization import TrainingRows, initial_vectors
from .prompt_states import PromptStates
from .unit_language_model import UnitLanguageModel

__all__ = ["InputPrompt"]


class InputPrompt(PromptModule):
    """P vectors before the tokens, unscaled and without positions, and the separator.

    Args:
        config (`SpeechPromptConfig`): prompt length, initialisation, dropout.
        lm (`UnitLanguageModel`): the frozen language model; read, not kept.
        generator (`torch.Generator`, *optional*): randomness of the initialisation.
        rows (`TrainingRows`, *optional*): for initialisations that look at the training rows; without them the vectors
            are zero until a table fills them.

    Raises:
        ConfigurationError: the rows have fewer distinct units than there are columns.
        LabelError: a class has no training rows.

    Source:
        SpeechPrompt v2 `transformer_prompt_decoder.py` without deep prompts.
    """

    file_names = ("vectors",)

    def __init__(
        self,
        config: SpeechPromptConfig,
        lm: UnitLanguageModel,
        generator: torch.Generator | None = None,
        rows: TrainingRows | None = None,
    ) -> None:
        super().__init__(config, lm, generator)
        shape = (config.num_virtual_tokens, lm.config.hidden_size)
        if config.prompt_init == "zeros" or (config.starts_from_rows and rows is None):
            vectors = torch.zeros(shape)
        elif config.prompt_init in ("normal", "scaled"):
            std = 1.0 if config.prompt_init == "normal" else config.prompt_init_std
            vectors = torch.randn(shape, generator=generator) * std
        else:
            vectors = initial_vectors(config, lm, generator, rows)
        self.vectors = nn.Parameter(vectors.detach().clone())

    def states(self, lm: UnitLanguageModel) -> PromptStates:
        """Vectors for a forward pass through `lm`, with dropout in training."""
        return PromptStates(separator=self.separator_vector(lm), inputs=self.drop(self.vectors))

    @torch.no_grad()
    def table(self, lm: UnitLanguageModel) -> Tensor:
        """PEFT's table: float32 of shape `(P, D)`."""
        return self.vectors.detach().float().cpu().contiguous().clone()

    @torch.no_grad()
    def load_table(self, table: Tensor) -> None:
        """Take over a table of shape `(P, D)`.

        Raises:
            AdapterError: another shape.
        """
        if table.shape != self.vectors.shape:
            raise AdapterError(
                f"the prompt table has shape {tuple(table.shape)}; this input prompt has {tuple(self.vectors.shape)}",
                hint="the adapter belongs to a base of another size",
            )
        self.vectors.copy_(table)

    def peft_config(self, lm: UnitLanguageModel, **fields: Any) -> PromptTuningConfig:
        """The stock PEFT configuration under which the table is saved."""
        return PromptTuningConfig(
            num_layers=lm.config.num_hidden_layers,
            num_attention_heads=lm.config.num_attention_heads,
            **self.common_peft_fields(lm),
            **fields,
        )

    @property
    def num_input_columns(self) -> int:
        """Columns that this prompt puts before the tokens."""
        return len(self.vectors)
