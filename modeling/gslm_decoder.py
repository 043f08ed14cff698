"""The decoder stack of the generative spoken language model, aware of padding and of prompts."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPast

from .attention import AttentionProjection, make_attention_mask, take_positions
from .base_door import AdapterDoor
from .cache_marks import CACHE_FIELD, cache_length, one_cache
from .configuration_gslm import GSLMConfig
from .decoder_layer import GSLMDecoderLayer
from .embeddings import Separator, UnitEmbedding, belongs_to_adapters
from .positions import NO_POSITION, SinusoidalPositions, count_positions
from .prompt_states import PromptStates
from .prompted_inputs import check_one_input, embed_columns, open_cache, show_inputs

__all__ = ["GSLMModel", "GSLMPreTrainedModel"]


class GSLMPreTrainedModel(AdapterDoor, PreTrainedModel):
    """Initialisation, loading and saving of unit language models."""

    config_class = GSLMConfig
    config: GSLMConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _no_split_modules = ["GSLMDecoderLayer"]  # noqa: RUF012 - transformers' own convention
    _supports_sdpa = True
    _supports_attention_backend = True
    # A base neither misses a separator nor carries one away: it belongs to adapters.
    _keys_to_ignore_on_load_missing = [r"embed_tokens\.separator\."]  # noqa: RUF012

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # fairseq's initialisation. Projections are known by their own kind, because transformers passes over modules
        # that have no parameters of their own, such as the attention around them.
        if isinstance(module, AttentionProjection):
            init.xavier_uniform_(module.weight, gain=module.gain)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, UnitEmbedding):
            init.normal_(module.weight, std=module.embedding_dim**-0.5)
            # A loaded row may have been trained; transformers flags loaded tensors.
            if module.padding_idx is not None and not getattr(module.weight, "_is_hf_initialized", False):
                init.zeros_(module.weight[module.padding_idx])
        elif isinstance(module, Separator):
            module.reset()
        elif isinstance(module, SinusoidalPositions):
            table = SinusoidalPositions.make_table(module.num_positions + module.offset, module.hidden_size)
            init.copy_(module.table, table)


class GSLMModel(GSLMPreTrainedModel):
    """The decoder stack without an output head.

    Positions count real tokens: neither padding (on either side) nor prompts shift them. Prompts reach the model in
    three ways: as `prompt`, as a non-empty cache that this model did not write (PEFT's prefix tuning), or as leading
    columns of `inputs_embeds` (PEFT's prompt tuning, whose number of columns the adapter's separator carries).

    Args:
        config (`GSLMConfig`): sizes.
    """

    def __init__(self, config: GSLMConfig) -> None:
        super().__init__(config)
        # First, because PEFT takes the first parameter with V rows for the word embedding.
        self.embed_tokens = UnitEmbedding(
            config.vocab_size, config.hidden_size, config.pad_token_id, scale=config.scale_embedding
        )
        self.embed_positions = SinusoidalPositions(config.max_position_embeddings, config.hidden_size)
        self.layers = nn.ModuleList(GSLMDecoderLayer(config, index) for index in range(config.num_hidden_layers))
        self.dropout = nn.Dropout(config.dropout)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.gradient_checkpointing = False
        self.post_init()
        self._keys_to_ignore_on_save = {name for name in self.state_dict() if belongs_to_adapters(name)}

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        prompt: PromptStates | None = None,
        positions_to_keep: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        cache: Cache | None = None,
    ) -> BaseModelOutputWithPast | tuple[Any, ...]:
        """Run the decoder.

        Args:
            input_ids (`LongTensor` of shape `(B, N)`, *optional*): token ids; or `inputs_embeds`.
            attention_mask (`Tensor` of shape `(B, past + N)`, *optional*): 1 for real columns, padding on either side;
                columns of `prompt` are not among them, those of a prompt in a cache or in `inputs_embeds` are.
            position_ids (`LongTensor` of shape `(B, N)`, *optional*): explicit positions from 0. With a prompt in a
                cache they count its columns too, as PEFT and transformers pass them. Without a mask and a cache,
                restarting positions separate packed sequences.
            past_key_values (`Cache`, *optional*): past keys and values.
            inputs_embeds (`Tensor` of shape `(B, N, D)`, *optional*): scaled embeddings instead of `input_ids`.
            use_cache (`bool`, *optional*): return keys and values; defaults to the configuration, off in training.
            prompt (`PromptStates`, *optional*): a prompt; pass it again at every step of a generation.
            positions_to_keep (`LongTensor` of shape `(B, K)`, *optional*): columns of the output; the last layer
                computes only these.
            output_hidden_states (`bool`, *optional*): return the input of every layer and the output.
            output_attentions (`bool`, *optional*): return attention weights, where the implementation has them.
            return_dict (`bool`, *optional*): `False` returns a tuple.
            cache (`Cache`, *optional*): another name of `past_key_values`, which transformers 5.24 uses.

        Returns:
            `BaseModelOutputWithPast`: `last_hidden_state` of shape `(B, N or K, D)`; columns of `prompt.inputs` are
            left out.

        Raises:
            ConfigurationError: both or neither of `input_ids` and `inputs_embeds`, two caches, or a cache together
                with gradient checkpointing.
        """
        check_one_input(input_ids, inputs_embeds)
        cache = one_cache(past_key_values, cache)
        cache, use_cache = open_cache(cache, use_cache, self, self, partial(DynamicCache, config=self.config))
        hidden_states, position_ids, explicit, num_inputs = self._embed(
            input_ids, inputs_embeds, position_ids, attention_mask, cache, prompt
        )
        past = 0 if cache is None else cache_length(cache)
        if prompt is not None and prompt.num_input_columns:
            if attention_mask is None and prompt.input_mask is not None:
                num_tokens = past + hidden_states.shape[1] - prompt.num_input_columns
                attention_mask = prompt.input_mask.new_ones(len(hidden_states), num_tokens, dtype=torch.long)
            if attention_mask is not None:
                attention_mask = show_inputs(attention_mask, prompt, is_first=num_inputs > 0)
        mask = make_attention_mask(
            self.config,
            hidden_states,
            attention_mask,
            cache,
            position_ids if explicit else None,
            0 if prompt is None else prompt.num_key_columns,
            key_mask=None if prompt is None else prompt.key_mask,
            may_be_implicit=positions_to_keep is None,
        )
        needed = past + hidden_states.shape[1]
        if explicit:
            needed = max(needed, int(position_ids.max()) + 1)
        hidden_states = hidden_states + self.embed_positions(position_ids, needed).to(hidden_states)
        hidden_states = self.dropout(hidden_states)

        wants_all = bool(output_hidden_states or output_attentions)
        hidden_states, all_states, all_weights = self._run_layers(
            hidden_states,
            mask,
            prompt,
            cache,
            None if wants_all or positions_to_keep is None else positions_to_keep + num_inputs,
            wants_all,
        )
        if wants_all and positions_to_keep is not None:
            hidden_states = take_positions(hidden_states, positions_to_keep + num_inputs)
        elif num_inputs and positions_to_keep is None:
            hidden_states = hidden_states[:, num_inputs:]
        hidden_states = self.layer_norm(hidden_states)
        output = BaseModelOutputWithPast(
            last_hidden_state=hidden_states,
            hidden_states=(*all_states, hidden_states) if output_hidden_states else None,
            attentions=all_weights if output_attentions else None,
            **{CACHE_FIELD: cache if use_cache else None},
        )
        return output.to_tuple() if return_dict is False else output

    def get_input_embeddings(self) -> UnitEmbedding:
        """The scaled unit embedding."""
        return self.embed_tokens

    def _embed(
        self,
        input_ids: Tensor | None,
        inputs_embeds: Tensor | None,
        position_ids: Tensor | None,
        attention_mask: Tensor | None,
        cache: Cache | None,
        prompt: PromptStates | None,
    ) -> tuple[Tensor, Tensor, bool, int]:
        """Embeddings `(B, P + N, D)`, positions, whether these are the caller's, and the columns P put in front."""
        past = 0 if cache is None else cache_length(cache)
        hidden_states, num_front, num_inputs = embed_columns(
            self.embed_tokens, input_ids, inputs_embeds, cache, prompt
        )
        # Those of an argument are left out of positions and mask.
        num_prompt_columns = num_front - num_inputs
        num_columns = hidden_states.shape[1]
        explicit = position_ids is not None
        if position_ids is not None:
            if num_prompt_columns and prompt is None:
                position_ids = (position_ids - num_prompt_columns).clamp(min=NO_POSITION)
        else:
            # The mask covers tokens only where the prompt is an argument, all columns where it came by itself.
            countable = attention_mask is not None and attention_mask.dim() == 2
            position_ids = count_positions(
                attention_mask if countable else None,
                past_length=past,
                num_tokens=num_columns - num_inputs,
                num_prompt_columns=num_prompt_columns,
                mask_covers_prompt=prompt is None,
            )
        position_ids = nn.functional.pad(position_ids, (num_inputs, 0), value=NO_POSITION)
        return hidden_states, position_ids, explicit, num_inputs

    def _run_layers(
        self,
        hidden_states: Tensor,
        mask: Tensor | None,
        prompt: PromptStates | None,
        cache: Cache | None,
        positions_to_keep: Tensor | None,
        wants_all: bool,
    ) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """States after the last layer; if asked for, states before each layer and attention weights."""
        all_states: tuple[Tensor, ...] = ()
        all_weights: tuple[Any, ...] = ()
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            if wants_all:
                all_states += (hidden_states,)
            keys, values = (None, None) if prompt is None else prompt.layer(index)
            keep = positions_to_keep if index == last else None
            if keep is not None and mask is not None:
                mask = mask.expand(len(keep), -1, -1, -1)
                mask = mask.gather(2, keep[:, None, :, None].expand(-1, mask.shape[1], -1, mask.shape[3]))
            read = None if prompt is None else prompt.read_layer(index)
            hidden_states, weights = layer(hidden_states, mask, keys, values, keep, cache=cache, read=read)
            if wants_all:
                all_weights += (weights,)
        return hidden_states, all_states, all_weights
