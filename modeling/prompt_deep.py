"""Deep prompts: trained keys and values in front of every layer's own. On disk they are PEFT's prefix tuning."""

from __future__ import annotations

from typing import Any

import torch
from peft import PrefixTuningConfig
from torch import Tensor, nn

from ..core.errors import AdapterError
from .configuration_speechprompt import SpeechPromptConfig
from .prompt_base import PromptModule
from .prompt_states import PromptStates
from .unit_language_model import UnitLanguageModel, token_states

__all__ = ["DeepPrompt"]


class DeepPrompt(PromptModule):
    """Key and value vectors of P prompt columns in each of L layers, and the separator.

    With the parametrisation `"projected"` (the paper's) the trained vectors stand where normalised hidden states would
    and pass the frozen key and value projections with their biases; with `"table"` (PEFT's) they are the keys and
    values. Dropout acts on the trained vectors, so before the projections, one draw for the whole batch.

    Args:
        config (`SpeechPromptConfig`): prompt length, parametrisation, initialisation, dropout.
        lm (`UnitLanguageModel`): the frozen language model; read, not kept.
        generator (`torch.Generator`, *optional*): randomness of the initialisation.

    Source:
        SpeechPrompt v2 `transformer_prompt_decoder.py`: key and value inputs of the first P columns are overwritten
        after the layer norm. The input vectors that the original also allocates never influence a logit and are left
        out.
    """

    file_names = ("keys", "values")

    def __init__(
        self, config: SpeechPromptConfig, lm: UnitLanguageModel, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(config, lm, generator)
        layers = lm.prompt_layers()
        self.table_width = layers[0].width
        width = lm.config.hidden_size if self.projected else self.table_width
        shape = (len(layers), config.num_virtual_tokens, width)
        self.keys = nn.Parameter(torch.empty(shape))
        self.values = nn.Parameter(torch.empty(shape))
        with torch.no_grad():
            self._initialize(config, lm, generator)

    @property
    def projected(self) -> bool:
        """Whether the trained vectors pass the key and value projections; the model's configuration says so."""
        return self.config.prompt_parametrization == "projected"

    def get_extra_state(self) -> Tensor:
        """`projected`, which belongs to the trained vectors in every state dictionary."""
        return torch.tensor(self.projected)

    def set_extra_state(self, state: Tensor) -> None:
        """Take over `projected`."""
        self.config.prompt_parametrization = "projected" if bool(state) else "table"

    def _initialize(
        self, config: SpeechPromptConfig, lm: UnitLanguageModel, generator: torch.Generator | None
    ) -> None:
        if config.prompt_init != "vocabulary":
            std = 1.0 if config.prompt_init == "normal" else config.prompt_init_std
            for vectors in (self.keys, self.values):
                vectors.copy_(torch.randn(vectors.shape, generator=generator) * std)
            return
        hidden_states = token_states(lm, config.num_virtual_tokens, generator)
        for index, layer in enumerate(lm.prompt_layers()):
            states = layer.normalize(hidden_states[index])
            self.keys[index] = states if self.projected else layer.keys_of(states)
            self.values[index] = states if self.projected else layer.values_of(states)

    def states(self, lm: UnitLanguageModel) -> PromptStates:
        """Keys and values for a forward pass through `lm`, with dropout in training."""
        keys, values = self.drop(self.keys), self.drop(self.values)
        layers = lm.prompt_layers()
        if self.projected:
            with torch.autocast(keys.device.type, enabled=False):
                projected_keys = [layer.keys_of(vectors) for layer, vectors in zip(layers, keys, strict=True)]
                projected_values = [layer.values_of(vectors) for layer, vectors in zip(layers, values, strict=True)]
        else:
            projected_keys, projected_values = list(keys), list(values)
        heads = (layers[0].num_heads, layers[0].head_dim)
        return PromptStates(
            separator=self.separator_vector(lm),
            keys=tuple(vectors.unflatten(-1, heads) for vectors in projected_keys),
            values=tuple(vectors.unflatten(-1, heads) for vectors in projected_values),
        )

    @torch.no_grad()
    def table(self, lm: UnitLanguageModel) -> Tensor:
        """PEFT's table, for each column the keys and values of each layer in turn.

        Float32 of shape `(P, 2·L·W)`, where W is the width of the keys: D, or less with grouped heads.
        """
        was_training = self.training
        self.eval()
        states = self.states(lm)
        self.train(was_training)
        assert states.keys is not None and states.values is not None
        layers = [vectors.flatten(1) for pair in zip(states.keys, states.values, strict=True) for vectors in pair]
        return torch.cat(layers, dim=1).float().cpu().contiguous()

    @torch.no_grad()
    def load_table(self, table: Tensor) -> None:
        """Take over a table; the prompt goes on as `"table"`, because projections cannot be undone exactly.

        Args:
            table (`Tensor` of shape `(P, 2·L·W)`): from `table` or from PEFT.

        Raises:
            AdapterError: another shape.
        """
        (num_layers, length), width = self.keys.shape[:2], self.table_width
        if tuple(table.shape) != (length, 2 * num_layers * width):
            raise AdapterError(
                f"the prompt table has shape {tuple(table.shape)}; a deep prompt of {length} columns for {num_layers} "
                f"layers of width {width} has {(length, 2 * num_layers * width)}",
                hint="the adapter belongs to a base of another size",
            )
        per_layer = table.view(length, num_layers, 2, width).permute(2, 1, 0, 3)
        if width != self.keys.shape[-1]:  # grouped heads: the trained vectors were wider than keys are
            self.keys = nn.Parameter(torch.empty_like(per_layer[0]).to(self.keys))
            self.values = nn.Parameter(torch.empty_like(self.keys))
        self.keys.copy_(per_layer[0])
        self.values.copy_(per_layer[1])
        self.config.prompt_parametrization = "table"

    def peft_config(self, lm: UnitLanguageModel, **fields: Any) -> PrefixTuningConfig:
        """The stock PEFT configuration under which the table is saved."""
        modules = ["separator"] if lm.encoder_prompt_path is None else ["separator", "encoder_prompt"]
        return PrefixTuningConfig(
            encoder_hidden_size=lm.config.hidden_size,
            num_layers=lm.config.num_hidden_layers,
            num_attention_heads=lm.config.num_attention_heads,
            **{**self.common_peft_fields(lm), "modules_to_save": modules},
            **fields,
        )
