"""Attention of encoder-decoder models: transformers' own, with prompts in front of the keys and values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import Cache, EncoderDecoderCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.mbart.modeling_mbart import MBartAttention

from .attention import eager_attention, put_in_front
from .attention_parts import KeysAndValues, attend_in_parts, parts_of_layer
from .cache_marks import one_cache
from .configuration_unit_mbart import UnitMBartConfig

__all__ = ["UnitMBartAttention", "additive_mask"]


class UnitMBartAttention(MBartAttention):
    """mBART's attention, which is BART's too, with a prompt where the layer hands one over.

    Args:
        config (`UnitMBartConfig`): sizes and attention implementation.
        is_decoder (`bool`): a layer of the decoder.
        is_cross (`bool`, defaults to `False`): it looks at the encoder's states, which have no prompts of their own.
        layer_index (`int`, defaults to 0): which layer of the cache belongs to it.
    """

    config: Any
    layer_idx: int

    def __init__(
        self,
        config: UnitMBartConfig,
        *,
        is_decoder: bool,
        is_cross: bool = False,
        layer_index: int = 0,
    ) -> None:
        super().__init__(
            embed_dim=config.hidden_size,
            num_heads=config.num_attention_heads,
            dropout=config.attention_dropout,
            is_decoder=is_decoder,
            is_causal=is_decoder and not is_cross,
            config=config,  # type: ignore[arg-type]
            layer_idx=layer_index,
        )
        self.is_cross = is_cross

    def split_heads(self, states: Tensor) -> Tensor:
        """`(B, N, D)` to `(B, H, N, D/H)`."""
        return states.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def forward(
        self,
        hidden_states: Tensor,
        key_value_states: Tensor | None = None,
        cache: Cache | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        prompt_keys: Tensor | None = None,
        prompt_values: Tensor | None = None,
        read: KeysAndValues | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend.

        Args:
            hidden_states (`Tensor` of shape `(B, N, D)`): give the queries.
            key_value_states (`Tensor` of shape `(B, M, D)`, *optional*): the encoder's states, for cross-attention.
            cache (`Cache`, *optional*): past keys and values; extended in place.
            attention_mask (`Tensor` of shape `(B or 1, 1, N or 1, P + M)`, *optional*): what is seen.
            past_key_values (`Cache`, *optional*): another name of `cache`, which transformers before 5.24 uses.
            prompt_keys (`Tensor` of shape `(P, H, D/H)` or `(B, P, H, D/H)`, *optional*): keys of the prompt.
            prompt_values (`Tensor` of the same shape, *optional*): values of the prompt.
            read (`KeysAndValues`, *optional*): of what was read before; it is seen behind the prompt.
            kwargs: of the attention function.

        Returns:
            `tuple[Tensor, Tensor | None]`: states of shape `(B, N, D)`, and attention weights where the
            implementation gives them.
        """
        queries = self.split_heads(self.q_proj(hidden_states))
        keys, values = self._keys_and_values(hidden_states, key_value_states, one_cache(past_key_values, cache))
        dropout = self.dropout if self.training else 0.0
        if read is not None:
            parts = [(keys, values)]
            if not self.is_cross:
                parts = parts_of_layer(prompt_keys, prompt_values, read, (keys, values))
            context = attend_in_parts(queries, parts, attention_mask, scaling=self.scaling, dropout=dropout)
            return self.out_proj(context.flatten(-2)), None
        if prompt_keys is not None and prompt_values is not None and not self.is_cross:
            keys, values = put_in_front(prompt_keys, keys), put_in_front(prompt_values, values)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention)
        context, weights = attend(
            self,
            queries,
            keys,
            values,
            attention_mask,
            dropout=dropout,
            scaling=self.scaling,
            is_causal=self.is_causal,
        )
        return self.out_proj(context.flatten(-2)), weights

    def _keys_and_values(
        self, hidden_states: Tensor, key_value_states: Tensor | None, cache: Cache | None
    ) -> tuple[Tensor, Tensor]:
        """Of all columns, cached ones included: `(B, H, M, D/H)`."""
        index = self.layer_idx
        if not self.is_cross:
            keys, values = self.split_heads(self.k_proj(hidden_states)), self.split_heads(self.v_proj(hidden_states))
            own = cache.self_attention_cache if isinstance(cache, EncoderDecoderCache) else cache
            return (keys, values) if own is None else own.update(keys, values, index)
        if isinstance(cache, EncoderDecoderCache) and cache.is_updated.get(index):
            layer: Any = cache.cross_attention_cache.layers[index]
            return layer.keys, layer.values
        keys, values = self.split_heads(self.k_proj(key_value_states)), self.split_heads(self.v_proj(key_value_states))
        if isinstance(cache, EncoderDecoderCache):
            keys, values = cache.cross_attention_cache.update(keys, values, index)
            cache.is_updated[index] = True
        return keys, values


def additive_mask(visible: Tensor, config: UnitMBartConfig, dtype: torch.dtype) -> Tensor:
    """A mask of any shape in the form that the configured attention wants; `visible` is bool, `True` where it sees."""
    if config._attn_implementation != "eager":
        return visible
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(~visible, torch.finfo(dtype).min)
