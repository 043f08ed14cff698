"""What deep and input prompts share: the separator, dropout, and the fields of their PEFT configuration."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from peft import PeftConfig
from torch import Tensor, nn

from .configuration_speechprompt import SpeechPromptConfig
from .prompt_states import PromptStates
from .unit_language_model import UnitLanguageModel

__all__ = ["PromptModule"]


class PromptModule(nn.Module, ABC):
    """A prompt in float32, apart from the language model that it prompts.

    Args:
        config (`SpeechPromptConfig`): prompt length, initialisation, dropout.
        lm (`UnitLanguageModel`): the frozen language model; read, not kept.
        generator (`torch.Generator`, *optional*): randomness of the initialisation.
    """

    file_names: tuple[str, ...] = ()
    """Names of the trained vectors, without the separator."""

    def __init__(
        self, config: SpeechPromptConfig, lm: UnitLanguageModel, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.config = config
        offset = torch.zeros(1, lm.config.hidden_size)
        if config.separator_init == "normal":
            start = lm.get_input_embeddings().start_row.detach().float().cpu()
            offset = torch.randn(offset.shape, generator=generator) - start
        self.separator_offset = nn.Parameter(offset)

    def drop(self, vectors: Tensor) -> Tensor:
        """Prompt dropout, in training only."""
        return nn.functional.dropout(vectors, self.config.prompt_dropout, self.training)

    def separator_vector(self, lm: UnitLanguageModel) -> Tensor:
        """The separator's unscaled input embedding, of shape `(D,)`."""
        start = lm.get_input_embeddings().start_row.detach()
        return start.float() + self.separator_offset[0]

    @abstractmethod
    def states(self, lm: UnitLanguageModel) -> PromptStates:
        """What `lm` needs for a forward pass."""

    @abstractmethod
    def table(self, lm: UnitLanguageModel) -> Tensor:
        """The prompt as PEFT stores it."""

    @abstractmethod
    def load_table(self, table: Tensor) -> None:
        """Take over a prompt as PEFT stores it."""

    @abstractmethod
    def peft_config(self, lm: UnitLanguageModel, **fields: Any) -> PeftConfig:
        """The stock PEFT configuration of this prompt."""

    @property
    def num_input_columns(self) -> int:
        """Columns that this prompt puts before the tokens."""
        return 0

    def common_peft_fields(self, lm: UnitLanguageModel) -> dict[str, Any]:
        """Fields of the PEFT configuration that do not depend on the kind of prompt."""
        return {
            "task_type": lm.peft_task_type,
            "num_virtual_tokens": self.config.num_virtual_tokens,
            "token_dim": lm.config.hidden_size,
            "num_transformer_submodules": 1,
            "modules_to_save": ["separator"],
            "inference_mode": True,
        }
