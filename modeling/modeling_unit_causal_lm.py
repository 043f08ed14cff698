"""Stock causal language models over units, TWIST's and slamkit's among them, wrapped as bases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoModel, Cache, DynamicCache, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from ..core.errors import ConfigurationError
from .attention import make_attention_mask, take_positions
from .attention_unit_causal_lm import PROMPTED_ATTENTION
from .base_door import AdapterDoor
from .cache_marks import CACHE_FIELD, cache_length, one_cache
from .configuration_unit_causal_lm import UnitCausalLMConfig
from .decoder_only_head import DecoderOnlyHead
from .decoder_only_reading import DecoderOnlyReading
from .embeddings import Separator, UnitEmbedding, belongs_to_adapters
from .positions import count_positions
from .prompt_states import PromptStates
from .prompted_inputs import check_one_input, embed_columns, open_cache, show_inputs
from .unit_causal_lm_columns import (
    find_columns,
    hide_start,
    let_start_see_itself,
    pad_positions,
    without_positions,
)
from .unit_language_model import PromptLayer

__all__ = ["UnitCausalLMForCausalLM", "UnitCausalLMModel", "UnitCausalLMPreTrainedModel"]


class UnitCausalLMPreTrainedModel(AdapterDoor, PreTrainedModel):
    """Initialisation, loading and saving of wrapped language models."""

    config_class = UnitCausalLMConfig
    config: UnitCausalLMConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_attention_backend = True
    # A base neither misses a separator nor carries one away: it belongs to adapters.
    _keys_to_ignore_on_load_missing = [r"embed_tokens\.separator\."]  # noqa: RUF012

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, Separator):
            module.reset()
        else:
            super()._init_weights(module)


class UnitCausalLMModel(UnitCausalLMPreTrainedModel):
    """A wrapped decoder stack without an output head.

    Its own embedding has the rows of `UnitVocabulary`. Positions count real tokens: neither padding (on either side)
    nor prompts shift them. Prompts reach it in the three ways in which they reach `GSLMModel`.

    Args:
        config (`UnitCausalLMConfig`): the wrapped model's configuration, and the vocabulary.
    """

    def __init__(self, config: UnitCausalLMConfig) -> None:
        super().__init__(config)
        # First, because PEFT takes the first parameter with V rows for the word embedding.
        self.embed_tokens = UnitEmbedding(config.vocab_size, config.hidden_size, config.pad_token_id, scale=False)
        self.backbone = AutoModel.from_config(config.make_lm_config())
        self.backbone.set_input_embeddings(None)
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
            input_ids (`LongTensor` of shape `(B, N)`, *optional*): token ids; or `inputs_embeds`. A sequence starts
                with `</s>`.
            attention_mask (`Tensor` of shape `(B, past + N)`, *optional*): 1 for real columns, padding on either side;
                columns of `prompt` are not among them, those of a prompt in a cache or in `inputs_embeds` are. Or
                of shape `(B, 1, N, past + N)`, bool for `"sdpa"`, floating for `"eager"`: taken as it is.
            position_ids (`LongTensor` of shape `(B, N)`, *optional*): explicit positions from 0, in which a start
                token that the wrapped model does not know has none. With a prompt in a cache they count its columns
                too, as PEFT and transformers pass them.
            past_key_values (`Cache`, *optional*): past keys and values.
            inputs_embeds (`Tensor` of shape `(B, N, D)`, *optional*): embeddings instead of `input_ids`.
            use_cache (`bool`, *optional*): return keys and values; defaults to the configuration, off in training.
            prompt (`PromptStates`, *optional*): a prompt; pass it again at every step of a generation. Keys are as
                the layer stores them, for rotary positions not rotated, which is the rotation of position 0.
            positions_to_keep (`LongTensor` of shape `(B, K)`, *optional*): columns of the output.
            output_hidden_states (`bool`, *optional*): return the input of every layer and the output.
            output_attentions (`bool`, *optional*): return attention weights, where the implementation has them.
            return_dict (`bool`, *optional*): `False` returns a tuple.
            cache (`Cache`, *optional*): another name of `past_key_values`, which transformers 5.24 uses.

        Returns:
            `BaseModelOutputWithPast`: `last_hidden_state` of shape `(B, N or K, D)`; columns of `prompt.inputs` are
            left out.

        Raises:
            ConfigurationError: both or neither of `input_ids` and `inputs_embeds`, two caches, a cache together with
                gradient checkpointing, a mask of another length, or more tokens than the model has positions.
        """
        check_one_input(input_ids, inputs_embeds)
        cache = one_cache(past_key_values, cache)
        cache, use_cache = open_cache(cache, use_cache, self, self, DynamicCache)
        vectors, num_front, num_inputs = embed_columns(self.embed_tokens, input_ids, inputs_embeds, cache, prompt)
        mask, positions = self._mask_and_positions(vectors, attention_mask, position_ids, cache, prompt, num_front)
        self._check_room(positions)
        vectors = without_positions(vectors, positions, self.config.family.first_position(self.backbone))
        # set_attn_implementation changes the wrapped model's along with this one's.
        self.backbone.config._attn_implementation = PROMPTED_ATTENTION
        output = self.backbone(
            inputs_embeds=vectors,
            attention_mask=mask,
            position_ids=positions.clamp(min=0),
            use_cache=cache is not None,
            output_hidden_states=bool(output_hidden_states),
            output_attentions=bool(output_attentions),
            speech_prompt=prompt,
            speech_attention=self.config._attn_implementation,
            **{CACHE_FIELD: cache},
        )
        hidden_states = output.last_hidden_state[:, num_inputs:]
        if positions_to_keep is not None:
            hidden_states = take_positions(hidden_states, positions_to_keep)
        result = BaseModelOutputWithPast(
            last_hidden_state=hidden_states,
            hidden_states=output.hidden_states if output_hidden_states else None,
            attentions=output.attentions if output_attentions else None,
            **{CACHE_FIELD: cache if use_cache else None},
        )
        return result.to_tuple() if return_dict is False else result

    def get_input_embeddings(self) -> UnitEmbedding:
        """The unit embedding."""
        return self.embed_tokens

    def _mask_and_positions(
        self,
        vectors: Tensor,
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        cache: Cache | None,
        prompt: PromptStates | None,
        num_front: int,
    ) -> tuple[Tensor, Tensor]:
        """The mask `(B or 1, 1, N, P + past + N)`, and positions `(B or 1, N)`."""
        past = 0 if cache is None else cache_length(cache)
        num_columns = vectors.shape[1]
        is_first = past == 0
        num_inputs = prompt.num_input_columns if prompt is not None and is_first else 0
        num_keys = 0 if prompt is None else prompt.num_key_columns
        positions, start, columns_mask = None, None, attention_mask
        if attention_mask is not None and attention_mask.dim() == 4:
            columns_mask = show_inputs(attention_mask, prompt, is_first=is_first)
        else:
            columns = find_columns(
                attention_mask,
                batch_size=len(vectors),
                past=past,
                num_columns=num_columns,
                num_front=num_front,
                prompt=prompt,
                has_start_token=self.config.has_start_token,
                device=vectors.device,
            )
            columns_mask, positions, start = columns.visible.long(), columns.positions, columns.start
        mask = make_attention_mask(
            self.config,
            vectors,
            columns_mask,
            cache,
            None,
            num_keys,
            key_mask=None if prompt is None else prompt.key_mask,
            may_be_implicit=False,
        )
        assert mask is not None
        if start is not None:
            mask = let_start_see_itself(mask, start, past, num_keys)
        if position_ids is not None:
            positions = pad_positions(position_ids, num_inputs, num_front if prompt is None else 0)
        if positions is None:
            positions = count_positions(
                None, past_length=past, num_tokens=num_columns, num_prompt_columns=num_front
            ).to(vectors.device)
        return mask, positions

    def _check_room(self, positions: Tensor) -> None:
        """Refuse what a table of learned positions has no rows for; rotations go on."""
        limit = self.config.max_position_embeddings
        if self.config.family.positions is not None:
            needed = int(positions.max()) + 1
            if needed > limit:
                raise ConfigurationError(
                    f"a sequence of {needed} tokens is longer than the {limit} positions that the base has learned",
                    hint="cut the recording, or choose a base with rotary positions",
                )


# transformers sees that a model generates by the name GenerationMixin among its bases.
class UnitCausalLMForCausalLM(DecoderOnlyHead, UnitCausalLMPreTrainedModel, DecoderOnlyReading, GenerationMixin):
    """A wrapped unit language model with an output head whose columns are those of `UnitVocabulary`.

    Args:
        config (`UnitCausalLMConfig`): the wrapped model's configuration, and the vocabulary.
    """

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012 - transformers' own convention
    function_fields: ClassVar[tuple[str, ...]] = ("lm_function", "has_start_token", "tie_word_embeddings")
    model: UnitCausalLMModel

    def __init__(self, config: UnitCausalLMConfig) -> None:
        super().__init__(config)
        self.model = UnitCausalLMModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def prompt_layers(self) -> Sequence[PromptLayer]:
        """The self-attention of every decoder layer."""
        config = self.config
        return config.family.prompt_layers(
            self.model.backbone, config.num_attention_heads, config.num_key_value_heads, config.head_dim
        )

    def checkpointing_modules(self) -> Sequence[nn.Module]:
        """The decoder and its layers; their dropouts are modules of their own, or 0."""
        return [self.model, *self.config.family.decoder_layers(self.model.backbone)]

    def visible_columns(self, attention_mask: Tensor) -> Tensor:
        """Real columns, without a start token that the wrapped model does not know."""
        visible = attention_mask.ne(0)
        return visible if self.config.has_start_token else hide_start(visible)[0]
