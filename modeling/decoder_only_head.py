"""The output head of decoder-only models: next-token logits, their loss, and generation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithPast

from .cache_marks import CACHE_FIELD, one_cache
from .embeddings import UnitEmbedding
from .prompt_states import PromptStates

__all__ = ["DecoderOnlyHead"]


class DecoderOnlyHead(GenerationMixin):
    """Mixin of language models with a decoder, `self.model`, and an output head, `self.lm_head`."""

    config: Any
    model: Any
    lm_head: nn.Module
    loss_function: Any
    accepts_loss_kwargs = True

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        prompt: PromptStates | None = None,
        num_items_in_batch: Tensor | int | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        cache: Cache | None = None,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """Next-token logits.

        Args:
            input_ids (`LongTensor` of shape `(B, N)`, *optional*): token ids; or `inputs_embeds`.
            attention_mask (`Tensor` of shape `(B, past + N)`, *optional*): 1 for real columns.
            position_ids (`LongTensor` of shape `(B, N)`, *optional*): explicit positions, see the decoder's `forward`.
            past_key_values (`Cache`, *optional*): past keys and values.
            inputs_embeds (`Tensor` of shape `(B, N, D)`, *optional*): scaled embeddings.
            labels (`LongTensor` of shape `(B, N)`, *optional*): target ids, -100 to ignore; the model shifts them.
            use_cache (`bool`, *optional*): return keys and values.
            logits_to_keep (`int | Tensor`, defaults to 0): the last so many columns (0: all), or the columns of a
                `LongTensor` of shape `(K,)` or, a row each, `(B, K)`. The last layer computes only these.
            prompt (`PromptStates`, *optional*): a prompt; pass it again at every step.
            num_items_in_batch (`int`, *optional*): divisor of the summed loss; the mean over targets without it.
            output_hidden_states (`bool`, *optional*): return the input of every layer and the output.
            output_attentions (`bool`, *optional*): return attention weights.
            return_dict (`bool`, *optional*): `False` returns a tuple.
            cache (`Cache`, *optional*): another name of `past_key_values`.

        Returns:
            `CausalLMOutputWithPast`: `logits` of shape `(B, N or K, V)`, and `loss` where labels were given.
        """
        source = input_ids if input_ids is not None else inputs_embeds
        output = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=one_cache(past_key_values, cache),
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            prompt=prompt,
            positions_to_keep=None if source is None else _positions_to_keep(logits_to_keep, source),
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )
        logits = self.lm_head(output.last_hidden_state)
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits, labels, vocab_size=self.config.vocab_size, num_items_in_batch=num_items_in_batch
            )
        result = CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
            **{CACHE_FIELD: output.get(CACHE_FIELD)},
        )
        return result.to_tuple() if return_dict is False else result

    def get_input_embeddings(self) -> UnitEmbedding:
        """The scaled unit embedding."""
        return self.model.embed_tokens

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, *args: Any, inputs_embeds: Tensor | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Inputs of one generation step.

        `generate` counts positions over prompts and leaves -1 out for padding, so the model's own count is used
        instead; explicit `position_ids` for `generate` are therefore ignored unless a static cache is used. The cache
        is passed on as `past_key_values`, the only name that PEFT 0.21 looks for.
        """
        inputs = super().prepare_inputs_for_generation(input_ids, *args, inputs_embeds=inputs_embeds, **kwargs)
        mask = inputs.get("attention_mask")
        if mask is None or mask.dim() == 2:
            inputs.pop("position_ids", None)
        if inputs.get("cache") is not None:
            inputs["past_key_values"] = inputs.pop("cache")
        return inputs


def _positions_to_keep(logits_to_keep: int | Tensor, source: Tensor) -> Tensor | None:
    """Columns of the output as a `LongTensor` of shape `(B, K)`, or `None` for all."""
    batch_size, num_columns = source.shape[:2]
    if isinstance(logits_to_keep, int):
        if logits_to_keep == 0 or logits_to_keep >= num_columns:
            return None
        logits_to_keep = torch.arange(num_columns - logits_to_keep, num_columns, device=source.device)
    if logits_to_keep.dim() == 1:
        logits_to_keep = logits_to_keep.expand(batch_size, -1)
    return logits_to_keep % num_columns
