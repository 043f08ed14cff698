"""Encoder and decoder of the Unit mBART: transformers' layers of mBART and BART, aware of padding and of prompts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.bart.modeling_bart import BartDecoderLayer, BartEncoderLayer
from transformers.models.mbart.modeling_mbart import MBartDecoderLayer, MBartEncoderLayer

from ..core.errors import ConfigurationError
from .attention import show_columns
from .cache_marks import CACHE_FIELD
from .configuration_unit_mbart import UnitMBartConfig
from .encoder_prompt import EncoderPrompt
from .positions import count_positions
from .prompt_states import PromptStates
from .unit_mbart_attention import UnitMBartAttention, additive_mask
from .unit_mbart_embeddings import LearnedPositions, UnitMBartEmbedding

__all__ = ["UnitMBartDecoder", "UnitMBartEncoder", "UnitMBartEncoderOutput"]


@dataclass
class UnitMBartEncoderOutput(BaseModelOutput):
    """What the encoder says.

    Attributes:
        visible (`BoolTensor` of shape `(B, P + M)`, *optional*): columns that the decoder sees; all without it.
        has_prompt (`bool`, *optional*): a prompt was there, so that the decoder starts with its separator.
    """

    visible: Tensor | None = None
    has_prompt: bool | None = None


class _Stack(nn.Module):
    """What encoder and decoder share."""

    gradient_checkpointing = False
    _gradient_checkpointing_func: Callable[..., Any]

    def __init__(self, config: UnitMBartConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_positions = LearnedPositions(config.max_position_embeddings, config.hidden_size)
        self.layernorm_embedding = nn.LayerNorm(config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)

    def _enter(self, vectors: Tensor, positions: Tensor) -> Tensor:
        """Scaled embeddings `(B, N, D)` to what the first layer reads."""
        vectors = vectors + self.embed_positions(positions).to(vectors)
        return self.dropout(self.layernorm_embedding(vectors))

    def _run(
        self,
        layer: nn.Module,
        hidden_states: Tensor,
        keys: Tensor | None,
        values: Tensor | None,
        has_cache: bool,
        **options: Any,
    ) -> Tensor:
        """One layer. Frozen layers stay without dropout, so they cannot checkpoint gradients themselves."""

        def run(hidden_states: Tensor, keys: Tensor | None, values: Tensor | None) -> Tensor:
            return layer(hidden_states, prompt_keys=keys, prompt_values=values, **options)

        wanted = self.gradient_checkpointing and self.training and not layer.training and torch.is_grad_enabled()
        if wanted and not has_cache:
            return self._gradient_checkpointing_func(run, hidden_states, keys, values)
        return run(hidden_states, keys, values)


class UnitMBartEncoder(_Stack):
    """Reads utterances in their encoder form.

    Prompts come as an argument, or by themselves where PEFT filled `encoder_prompt` or put columns before
    `inputs_embeds`. They have no positions and shift none.

    Args:
        config (`UnitMBartConfig`): sizes.
    """

    def __init__(self, config: UnitMBartConfig) -> None:
        super().__init__(config)
        # First, because PEFT takes the first parameter with V rows for the word embedding.
        self.embed_tokens = UnitMBartEmbedding(
            config.vocab_size, config.hidden_size, config.pad_token_id, scale=config.scale_embedding
        )
        kind: Any = MBartEncoderLayer if config.normalize_before else BartEncoderLayer
        layers = [kind(config) for _ in range(config.num_encoder_layers)]
        for layer in layers:
            layer.self_attn = UnitMBartAttention(config, is_decoder=False)
        self.layers = nn.ModuleList(layers)
        if config.normalize_before:
            self.layer_norm = nn.LayerNorm(config.hidden_size)
        self.encoder_prompt = EncoderPrompt(config.num_encoder_layers, config.hidden_size)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        prompt: PromptStates | None = None,
        uses_own_prompt: bool = True,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> UnitMBartEncoderOutput:
        """Run the encoder.

        Args:
            input_ids (`LongTensor` of shape `(B, M)`, *optional*): token ids; or `inputs_embeds`.
            attention_mask (`Tensor` of shape `(B, M)`, *optional*): 1 for real columns, padding on either side; those
                of a prompt in `inputs_embeds` are among them.
            inputs_embeds (`Tensor` of shape `(B, M, D)`, *optional*): scaled embeddings instead of `input_ids`.
            prompt (`PromptStates`, *optional*): a prompt.
            uses_own_prompt (`bool`, defaults to `True`): `encoder_prompt` counts where there is no `prompt`.
            output_hidden_states (`bool`, *optional*): return the input of every layer and the output.
            output_attentions (`bool`, *optional*): refused: the layers give no attention weights.
            return_dict (`bool`, *optional*): ignored.

        Raises:
            ConfigurationError: both or neither of `input_ids` and `inputs_embeds`, or attention weights are asked for.
            UnitError: a row is longer than the table of positions.
        """
        if output_attentions:
            raise ConfigurationError("a Unit mBART gives no attention weights", hint="leave output_attentions out")
        if (input_ids is None) == (inputs_embeds is None):
            raise ConfigurationError("give exactly one of input_ids and inputs_embeds")
        num_prompts = 0
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        elif prompt is None:
            num_prompts = int(self.embed_tokens.separator.num_prompt_columns)
        visible = None if attention_mask is None else attention_mask.ne(0)
        if prompt is not None and prompt.inputs is not None:
            num_prompts = prompt.num_input_columns
            inputs = prompt.inputs.to(inputs_embeds)
            inputs = inputs.expand(len(inputs_embeds), -1, -1) if inputs.dim() == 2 else inputs
            inputs_embeds = torch.cat([inputs, inputs_embeds], dim=1)
            visible = _show_inputs(visible, prompt, inputs_embeds)
        positions = count_positions(
            visible, past_length=0, num_tokens=inputs_embeds.shape[1], num_prompt_columns=num_prompts
        )
        layers = [(None, None)] * len(self.layers) if prompt is None else [*map(prompt.layer, range(len(self.layers)))]
        own = self.encoder_prompt(self.config.num_attention_heads) if prompt is None and uses_own_prompt else None
        if own is not None:
            layers = list(zip(*own, strict=True))
        hidden_states = self._enter(inputs_embeds, positions.to(inputs_embeds.device))
        mask = self._mask(hidden_states, visible, layers[0][0], None if prompt is None else prompt.key_mask)
        all_states = []
        for layer, (keys, values) in zip(self.layers, layers, strict=True):
            all_states.append(hidden_states)
            hidden_states = self._run(layer, hidden_states, keys, values, False, attention_mask=mask)
        if self.config.normalize_before:
            hidden_states = self.layer_norm(hidden_states)
        return UnitMBartEncoderOutput(
            last_hidden_state=hidden_states,
            hidden_states=(*all_states, hidden_states) if output_hidden_states else None,
            visible=visible,
            has_prompt=prompt is not None or own is not None or num_prompts > 0,
        )

    def _mask(
        self, hidden_states: Tensor, visible: Tensor | None, keys: Tensor | None, key_mask: Tensor | None
    ) -> Tensor | None:
        if visible is None and key_mask is None:
            return None
        if visible is None:
            visible = hidden_states.new_ones(hidden_states.shape[:2], dtype=torch.bool)
        columns = visible[:, None, None, :]
        if keys is not None:
            columns = show_columns(columns, keys.shape[-3], key_mask)
        return additive_mask(columns, self.config, hidden_states.dtype)


class UnitMBartDecoder(_Stack):
    """Reads what was said so far, looking at what the encoder says.

    Args:
        config (`UnitMBartConfig`): sizes.
    """

    def __init__(self, config: UnitMBartConfig) -> None:
        super().__init__(config)
        kind: Any = MBartDecoderLayer if config.normalize_before else BartDecoderLayer
        layers = [kind(config, layer_idx=index) for index in range(config.num_hidden_layers)]
        for index, layer in enumerate(layers):
            layer.self_attn = UnitMBartAttention(config, is_decoder=True, layer_index=index)
            layer.encoder_attn = UnitMBartAttention(config, is_decoder=True, is_cross=True, layer_index=index)
        self.layers = nn.ModuleList(layers)
        if config.normalize_before:
            self.layer_norm = nn.LayerNorm(config.hidden_size)

    def forward(
        self,
        vectors: Tensor,
        positions: Tensor,
        attention_mask: Tensor | None,
        encoder_states: Tensor,
        encoder_visible: Tensor | None,
        cache: EncoderDecoderCache | None = None,
        prompt: PromptStates | None = None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run the decoder.

        Args:
            vectors (`Tensor` of shape `(B, N, D)`): scaled embeddings.
            positions (`LongTensor` of shape `(B or 1, N)`): from 0.
            attention_mask (`Tensor` of shape `(B or 1, 1, N, P + past + N)`, *optional*): what is seen; what came
                before without it.
            encoder_states (`Tensor` of shape `(B, M, D)`): of the encoder.
            encoder_visible (`BoolTensor` of shape `(B, M)`, *optional*): which of them are real; all without it.
            cache (`EncoderDecoderCache`, *optional*): past keys and values; extended in place.
            prompt (`PromptStates`, *optional*): a prompt, whose first layers are the encoder's.

        Returns:
            `tuple`: states of shape `(B, N, D)`, and the input of every layer.
        """
        hidden_states = self._enter(vectors, positions.to(vectors.device))
        cross_mask = None
        if encoder_visible is not None:
            cross_mask = additive_mask(encoder_visible[:, None, None, :], self.config, hidden_states.dtype)
        options: dict[str, Any] = {
            "attention_mask": attention_mask,
            "encoder_hidden_states": encoder_states,
            "encoder_attention_mask": cross_mask,
            CACHE_FIELD: cache,
        }
        all_states = []
        for index, layer in enumerate(self.layers):
            keys, values = (None, None) if prompt is None else prompt.layer(self.config.num_encoder_layers + index)
            read = None if prompt is None else prompt.read_layer(index)
            all_states.append(hidden_states)
            hidden_states = self._run(layer, hidden_states, keys, values, cache is not None, read=read, **options)
        if self.config.normalize_before:
            hidden_states = self.layer_norm(hidden_states)
        return hidden_states, tuple(all_states)


def _show_inputs(visible: Tensor | None, prompt: PromptStates, vectors: Tensor) -> Tensor | None:
    """Put columns for input prompts before those of tokens; `vectors` `(B, P + M, D)` has both."""
    if visible is None and prompt.input_mask is None:
        return None
    shown = torch.ones(vectors.shape[:2], dtype=torch.bool, device=vectors.device)
    num_prompts = prompt.num_input_columns
    if visible is not None:
        shown[:, num_prompts:] = visible
    if prompt.input_mask is not None:
        shown[:, :num_prompts] = prompt.input_mask
    return shown
