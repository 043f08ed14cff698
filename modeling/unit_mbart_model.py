"""Encoder and decoder of the Unit mBART as one model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache, EncoderDecoderCache, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqModelOutput

from ..core.errors import ConfigurationError
from .attention import make_attention_mask
from .base_door import AdapterDoor
from .cache_marks import CACHE_FIELD, cache_length, one_cache, prompt_columns_of_cache
from .configuration_unit_mbart import UnitMBartConfig
from .embeddings import Separator, UnitEmbedding, belongs_to_adapters
from .encoder_prompt import EncoderPrompt
from .positions import count_positions
from .prompt_states import PromptStates
from .prompted_inputs import open_cache
from .unit_mbart_stacks import UnitMBartDecoder, UnitMBartEncoder, UnitMBartEncoderOutput

__all__ = ["UnitMBartModel", "UnitMBartPreTrainedModel"]


class UnitMBartPreTrainedModel(AdapterDoor, PreTrainedModel):
    """Initialisation, loading and saving of encoder-decoder unit language models."""

    config_class = UnitMBartConfig
    config: UnitMBartConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _no_split_modules = [  # noqa: RUF012 - transformers' own convention
        "MBartEncoderLayer",
        "MBartDecoderLayer",
        "BartEncoderLayer",
        "BartDecoderLayer",
    ]
    _supports_sdpa = True
    _supports_attention_backend = True
    # A base neither misses what belongs to adapters nor carries it away.
    _keys_to_ignore_on_load_missing = [r"\.separator\.", r"encoder_prompt\."]  # noqa: RUF012

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                init.zeros_(module.bias)
            is_new = not getattr(module.weight, "_is_hf_initialized", False)
            if isinstance(module, nn.Embedding) and module.padding_idx is not None and is_new:
                init.zeros_(module.weight[module.padding_idx])
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, Separator):
            module.reset()
        elif isinstance(module, EncoderPrompt):
            module.float().requires_grad_(False)


class UnitMBartModel(UnitMBartPreTrainedModel):
    """Encoder and decoder without an output head.

    Prompts reach the model in three ways: as `prompt`, as a non-empty cache that this model did not write together
    with the encoder's own `encoder_prompt` (PEFT's prefix tuning), or as leading columns of `inputs_embeds` (PEFT's
    prompt tuning). With a prompt the decoder's first column is its separator.

    Args:
        config (`UnitMBartConfig`): sizes.
    """

    def __init__(self, config: UnitMBartConfig) -> None:
        super().__init__(config)
        self.encoder = UnitMBartEncoder(config)
        self.decoder = UnitMBartDecoder(config)
        self.encoder.embed_tokens.separator_token_id = config.language_token_id
        self.post_init()
        self._keys_to_ignore_on_save = {name for name in self.state_dict() if belongs_to_adapters(name)}

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple[Tensor, ...] | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        prompt: PromptStates | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        cache: Cache | None = None,
    ) -> Seq2SeqModelOutput | tuple[Any, ...]:
        """Run encoder and decoder; arguments as in `UnitMBartForConditionalGeneration.forward`.

        Returns:
            `Seq2SeqModelOutput`: `last_hidden_state` of shape `(B, N, D)`.

        Raises:
            ConfigurationError: inputs are missing or there twice, two caches, attention weights are asked for, or a
                cache comes together with gradient checkpointing.
            UnitError: a sequence is longer than the table of positions.
        """
        if (decoder_input_ids is None) == (decoder_inputs_embeds is None):
            raise ConfigurationError("give exactly one of decoder_input_ids and decoder_inputs_embeds")
        given = _self_and_cross(one_cache(past_key_values, cache))
        given, use_cache = open_cache(given, use_cache, self, self.encoder, _empty_cache)
        own = None if given is None else given.self_attention_cache
        num_prompts = prompt_columns_of_cache(own)
        encoded = self._encode(
            encoder_outputs,
            attention_mask,
            input_ids=input_ids,
            inputs_embeds=inputs_embeds,
            prompt=prompt,
            uses_own_prompt=num_prompts > 0,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )
        past = 0 if own is None else cache_length(own)
        has_prompt = prompt is not None or num_prompts > 0 or bool(encoded.has_prompt)
        if decoder_inputs_embeds is None:
            separator: Tensor | bool = False
            if has_prompt and past == num_prompts:
                separator = True if prompt is None or prompt.separator is None else prompt.separator
            decoder_inputs_embeds = self.encoder.embed_tokens(decoder_input_ids, separator=separator)
        positions = count_positions(
            decoder_attention_mask,
            past_length=past,
            num_tokens=decoder_inputs_embeds.shape[1],
            num_prompt_columns=num_prompts,
            mask_covers_prompt=prompt is None,
        )
        hidden_states, all_states = self.decoder(
            decoder_inputs_embeds,
            positions,
            self.decoder_mask(decoder_inputs_embeds, decoder_attention_mask, own, prompt),
            encoded.last_hidden_state,
            encoded.visible,
            given,
            prompt,
        )
        kept: dict[str, Any] = {CACHE_FIELD: given if use_cache else None}
        output = Seq2SeqModelOutput(
            last_hidden_state=hidden_states,
            decoder_hidden_states=(*all_states, hidden_states) if output_hidden_states else None,
            encoder_last_hidden_state=encoded.last_hidden_state,
            encoder_hidden_states=encoded.hidden_states,
            **kept,
        )
        return output.to_tuple() if return_dict is False else output

    def _encode(
        self, given: BaseModelOutput | tuple[Tensor, ...] | None, attention_mask: Tensor | None, **inputs: Any
    ) -> UnitMBartEncoderOutput:
        if given is None:
            return self.encoder(attention_mask=attention_mask, **inputs)
        if isinstance(given, UnitMBartEncoderOutput):
            return given
        visible = None if attention_mask is None else attention_mask.ne(0)
        return UnitMBartEncoderOutput(last_hidden_state=given[0], visible=visible)

    def decoder_mask(
        self, vectors: Tensor, attention_mask: Tensor | None, cache: Cache | None, prompt: PromptStates | None
    ) -> Tensor | None:
        """What the decoder's columns see of themselves.

        Args:
            vectors (`Tensor` of shape `(B, N, D)`): give sizes, dtype and device.
            attention_mask (`Tensor` of shape `(B, past + N)`, *optional*): 1 for columns that may be seen.
            cache (`Cache`, *optional*): past keys and values of the self-attention.
            prompt (`PromptStates`, *optional*): a prompt.

        Returns:
            `Tensor` of shape `(B or 1, 1, N, P + past + N)`, or `None` where plain causal attention is meant.
        """
        return make_attention_mask(
            self.config,
            vectors,
            attention_mask,
            cache,
            None,
            0 if prompt is None else prompt.num_key_columns,
            key_mask=None if prompt is None else prompt.key_mask,
        )

    def get_input_embeddings(self) -> UnitEmbedding:
        """The scaled unit embedding, one for encoder, decoder and output head."""
        return self.encoder.embed_tokens

    def get_encoder(self, *args: Any, **kwargs: Any) -> UnitMBartEncoder:
        """The encoder."""
        return self.encoder


def _empty_cache() -> EncoderDecoderCache:
    return EncoderDecoderCache(DynamicCache(), DynamicCache())


def _self_and_cross(cache: Cache | None) -> EncoderDecoderCache | None:
    """The cache with room for what the decoder sees of the encoder; PEFT's prompts come without."""
    if cache is None or isinstance(cache, EncoderDecoderCache):
        return cache
    return EncoderDecoderCache(cache, DynamicCache())
