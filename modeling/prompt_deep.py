"""Deep prompts: trained keys and values in front of every layer's own. On disk they are PEFT's prefix tuning."""

from __future__ import annotations

from typing import Any

import torch
from peft import PrefixTuningConfig
from torch import Tensor, nn

from ..core.errors import AdapterError, ConfigurationError
from .configuration_speechprompt import SpeechPromptConfig
from .prompt_base import PromptModule
from .prompt_initialization import TrainingRows, initial_states
from .prompt_states import PromptStates
from .unit_language_model import UnitLanguageModel

__all__ = ["DeepPrompt", "chosen_layers"]


class DeepPrompt(PromptModule):
    """Key and value vectors of P prompt columns in some or all of L layers, and the separator.

    With the parametrisation `"projected"` (the paper's) the trained vectors stand where normalised hidden states would
    and pass the frozen key and value projections with their biases; with `"table"` (PEFT's) they are the keys and
    values. Dropout acts on the trained vectors, so before the projections, one draw for the whole batch.

    In layers outside `config.prompt_layers` nothing is trained and the vectors are zero: before the projections, so
    that keys and values are the projections' biases, or as keys and values in a `"table"`. **Such a column still takes
    part in the softmax of its layer** and takes weight from the tokens: PEFT stores one number of columns for all
    layers and puts as many into the cache of each, so an adapter that it opens with the same logits cannot leave them
    out in some. A layer outside the choice is thus not as without a prompt.

    Args:
        config (`SpeechPromptConfig`): prompt length, parametrisation, layers, initialisation, dropout.
        lm (`UnitLanguageModel`): the frozen language model; read, not kept.
        generator (`torch.Generator`, *optional*): randomness of the initialisation.
        rows (`TrainingRows`, *optional*): for initialisations that look at the training rows; without them the vectors
            are zero until a table fills them.

    Raises:
        ConfigurationError: the base has no such layers, or the rows have fewer distinct units than there are columns.
        LabelError: a class has no training rows.

    Source:
        SpeechPrompt v2 `transformer_prompt_decoder.py`: key and value inputs of the first P columns are overwritten
        after the layer norm. The input vectors that the original also allocates never influence a logit and are left
        out.
    """

    file_names = ("keys", "values")
    other_keys: Tensor | None
    other_values: Tensor | None

    def __init__(
        self,
        config: SpeechPromptConfig,
        lm: UnitLanguageModel,
        generator: torch.Generator | None = None,
        rows: TrainingRows | None = None,
    ) -> None:
        super().__init__(config, lm, generator)
        layers = lm.prompt_layers()
        self.num_layers = len(layers)
        self.table_width = layers[0].width
        self.trained_layers = chosen_layers(config.prompt_layers, lm)
        # All layers are drawn, so that a layer begins the same whatever others are trained.
        keys, values = self._initial_vectors(config, lm, generator, rows)
        self.keys = nn.Parameter(keys[list(self.trained_layers)])
        self.values = nn.Parameter(values[list(self.trained_layers)])
        # What a table says of the other layers; buffers, so that no optimizer moves them.
        others = self.num_layers - len(self.trained_layers)
        shape = (others, config.num_virtual_tokens, self.table_width)
        self.register_buffer("other_keys", torch.zeros(shape) if others else None)
        self.register_buffer("other_values", torch.zeros(shape) if others else None)

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

    @torch.no_grad()
    def _initial_vectors(
        self,
        config: SpeechPromptConfig,
        lm: UnitLanguageModel,
        generator: torch.Generator | None,
        rows: TrainingRows | None,
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of all layers, `(L, P, D)`, or as a table `(L, P, W)`."""
        layers = lm.prompt_layers()
        width = lm.config.hidden_size if self.projected else self.table_width
        shape = (len(layers), config.num_virtual_tokens, width)
        if config.prompt_init == "zeros" or (config.starts_from_rows and rows is None):
            return torch.zeros(shape), torch.zeros(shape)
        if config.prompt_init in ("normal", "scaled"):
            std = 1.0 if config.prompt_init == "normal" else config.prompt_init_std
            keys = torch.randn(shape, generator=generator) * std
            return keys, torch.randn(shape, generator=generator) * std
        states = initial_states(config, lm, generator, rows)
        if self.projected:
            return torch.stack(states), torch.stack(states)
        pairs = [(layer, state.to(layer.k_proj.weight.device)) for layer, state in zip(layers, states, strict=True)]
        keys = torch.stack([layer.keys_of(state).cpu() for layer, state in pairs])
        return keys, torch.stack([layer.values_of(state).cpu() for layer, state in pairs])

    def states(self, lm: UnitLanguageModel) -> PromptStates:
        """Keys and values for a forward pass through `lm`, with dropout in training."""
        keys = self._of_all_layers(self.drop(self.keys), self.other_keys)
        values = self._of_all_layers(self.drop(self.values), self.other_values)
        layers = lm.prompt_layers()
        if self.projected:
            with torch.autocast(self.keys.device.type, enabled=False):
                projected_keys = [layer.keys_of(vectors) for layer, vectors in zip(layers, keys, strict=True)]
                projected_values = [layer.values_of(vectors) for layer, vectors in zip(layers, values, strict=True)]
        else:
            projected_keys, projected_values = keys, values
        heads = (layers[0].num_heads, layers[0].head_dim)
        return PromptStates(
            separator=self.separator_vector(lm),
            keys=tuple(vectors.unflatten(-1, heads) for vectors in projected_keys),
            values=tuple(vectors.unflatten(-1, heads) for vectors in projected_values),
        )

    def _of_all_layers(self, trained: Tensor, others: Tensor | None) -> list[Tensor]:
        """Trained vectors and, in the layers between them, zeros or what a table said."""
        if others is None:
            return list(trained)
        fixed = iter(trained.new_zeros(len(others), *trained.shape[1:]) if self.projected else others)
        vectors = iter(trained)
        return [next(vectors if index in self.trained_layers else fixed) for index in range(self.num_layers)]

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

        Layers that are not trained keep what the table says of them.

        Args:
            table (`Tensor` of shape `(P, 2·L·W)`): from `table` or from PEFT.

        Raises:
            AdapterError: another shape.
        """
        num_layers, length, width = self.num_layers, self.keys.shape[1], self.table_width
        if tuple(table.shape) != (length, 2 * num_layers * width):
            raise AdapterError(
                f"the prompt table has shape {tuple(table.shape)}; a deep prompt of {length} columns for {num_layers} "
                f"layers of width {width} has {(length, 2 * num_layers * width)}",
                hint="the adapter belongs to a base of another size",
            )
        per_layer = table.view(length, num_layers, 2, width).permute(2, 1, 0, 3)
        trained = list(self.trained_layers)
        if width != self.keys.shape[-1]:  # grouped heads: the trained vectors were wider than keys are
            self.keys = nn.Parameter(torch.empty_like(per_layer[0, trained]).to(self.keys))
            self.values = nn.Parameter(torch.empty_like(self.keys))
        self.keys.copy_(per_layer[0, trained])
        self.values.copy_(per_layer[1, trained])
        if self.other_keys is not None and self.other_values is not None:
            others = [index for index in range(num_layers) if index not in self.trained_layers]
            self.other_keys.copy_(per_layer[0, others])
            self.other_values.copy_(per_layer[1, others])
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


def chosen_layers(choice: str, lm: UnitLanguageModel) -> tuple[int, ...]:
    """Which of `lm.prompt_layers()` a deep prompt is trained in.

    Args:
        choice (`str`): as `prompt_layers` of `SpeechPromptConfig`.
        lm (`UnitLanguageModel`): the base.

    Returns:
        `tuple[int, ...]`: ascending, at least one.

    Raises:
        ConfigurationError: the base has no encoder, or no layer in the upper half.
    """
    number, of_encoder = len(lm.prompt_layers()), lm.num_encoder_prompt_layers
    stacks = [range(of_encoder), range(of_encoder, number)]
    if choice in ("encoder", "decoder") and not of_encoder:
        raise ConfigurationError(
            f"prompt_layers is {choice!r}, and the base has no encoder",
            hint="'all', 'lower' or 'upper'; 'encoder' and 'decoder' are for a Unit mBART",
        )
    chosen = {
        "all": [*stacks[0], *stacks[1]],
        "encoder": [*stacks[0]],
        "decoder": [*stacks[1]],
        "lower": [index for stack in stacks for index in stack[: (len(stack) + 1) // 2]],
        "upper": [index for stack in stacks for index in stack[(len(stack) + 1) // 2 :]],
    }[choice]
    if not chosen:
        raise ConfigurationError(
            f"prompt_layers is {choice!r}, and the base has {number} layer(s), none of them in that half",
            hint="prompt_layers='all'",
        )
    return tuple(chosen)
