"""Self-attention with prompts in front of the keys and values, and the masks it needs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedConfig
from transformers.masking_utils import create_causal_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .attention_parts import KeysAndValues, attend_in_parts, parts_of_layer
from .configuration_gslm import GSLMConfig

__all__ = [
    "AttentionProjection",
    "GSLMAttention",
    "eager_attention",
    "make_attention_mask",
    "put_in_front",
    "show_columns",
    "take_positions",
]


def put_in_front(prompt: Tensor, states: Tensor) -> Tensor:
    """Concatenate keys or values of a prompt in front of those of tokens.

    Args:
        prompt (`Tensor` of shape `(P, H, D/H)` or `(B, P, H, D/H)`): one prompt, or one a row.
        states (`Tensor` of shape `(B, H, N, D/H)`): keys or values of tokens.

    Returns:
        `Tensor` of shape `(B, H, P + N, D/H)` in the dtype of `states`.
    """
    prompt = prompt.to(dtype=states.dtype, device=states.device)
    prompt = prompt.unsqueeze(0) if prompt.dim() == 3 else prompt
    return torch.cat([prompt.transpose(1, 2).expand(states.shape[0], -1, -1, -1), states], dim=2)


def take_positions(states: Tensor, positions: Tensor) -> Tensor:
    """Rows of `states` (`(B, N, D)`) at `positions` (`(B, K)`): a tensor of shape `(B, K, D)`."""
    return states.gather(1, positions.unsqueeze(-1).expand(-1, -1, states.shape[-1]))


def make_attention_mask(
    config: PreTrainedConfig,
    hidden_states: Tensor,
    attention_mask: Tensor | None,
    cache: Cache | None,
    position_ids: Tensor | None,
    num_key_columns: int,
    *,
    key_mask: Tensor | None = None,
    may_be_implicit: bool = True,
) -> Tensor | None:
    """The causal mask in the form that the configured attention wants.

    Args:
        config (`PreTrainedConfig`): names the attention implementation.
        hidden_states (`Tensor` of shape `(B, N, D)`): gives sizes, dtype and device.
        attention_mask (`Tensor` of shape `(B, past + N)`, *optional*): 1 for columns that may be seen.
        cache (`Cache`, *optional*): past keys and values.
        position_ids (`LongTensor` of shape `(B, N)`, *optional*): explicit positions; where they restart, packed
            sequences do not see each other.
        num_key_columns (`int`): prompt columns P in front, visible to every token.
        key_mask (`BoolTensor` of shape `(B, P)`, *optional*): which of these columns a row has; all without it.
        may_be_implicit (`bool`, defaults to `True`): `None` may stand for plain causal attention.

    Returns:
        `Tensor` of shape `(B, 1, N, P + past + N)`, or `None` where plain causal attention is meant.
    """
    # Positional arguments: transformers 5.24 renamed the cache's keyword.
    mask = create_causal_mask(
        config,
        hidden_states,
        attention_mask,
        cache,
        position_ids,
        allow_is_causal_skip=may_be_implicit and not num_key_columns,
    )
    if mask is None or not num_key_columns:
        return mask
    return show_columns(mask, num_key_columns, key_mask)


def show_columns(mask: Tensor, num_columns: int, column_mask: Tensor | None = None) -> Tensor:
    """Put columns of prompts in front of an attention mask.

    Args:
        mask (`Tensor` of shape `(B or 1, 1, N, M)`): bool (`True`: seen), or floating (added to the scores).
        num_columns (`int`): prompt columns P.
        column_mask (`BoolTensor` of shape `(B, P)`, *optional*): which of them a row has; all without it.

    Returns:
        `Tensor` of shape `(B, 1, N, P + M)`.
    """
    is_bool = mask.dtype == torch.bool
    if column_mask is None:
        visible = mask.new_full((*mask.shape[:-1], num_columns), True if is_bool else 0.0)
        return torch.cat([visible, mask], dim=-1)
    mask = mask.expand(len(column_mask), -1, -1, -1)
    visible = column_mask[:, None, None, :].expand(*mask.shape[:-1], -1)
    if not is_bool:
        hidden = torch.finfo(mask.dtype).min
        visible = torch.zeros_like(visible, dtype=mask.dtype).masked_fill(~visible, hidden)
    return torch.cat([visible, mask], dim=-1)


def eager_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float = 1.0,
    is_causal: bool | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention step by step, as transformers' attention functions are called: states and weights."""
    weights = torch.matmul(query, key.transpose(2, 3)) * scaling
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = nn.functional.softmax(weights, dim=-1, dtype=torch.float32).to(query.dtype)
    context = torch.matmul(nn.functional.dropout(weights, p=dropout), value)
    return context.transpose(1, 2).contiguous(), weights


class AttentionProjection(nn.Linear):
    """A square linear map with a bias, which starts as fairseq's projections do.

    Args:
        hidden_size (`int`): width D.
        gain (`float`): factor of Xavier's uniform initialisation.
    """

    def __init__(self, hidden_size: int, *, gain: float) -> None:
        super().__init__(hidden_size, hidden_size)
        self.gain = gain


class GSLMAttention(nn.Module):
    """Multi-head self-attention with biases; queries are scaled by (D/H)^-0.5.

    Args:
        config (`GSLMConfig`): sizes and attention implementation.
        layer_index (`int`): which layer of the cache belongs to it.
    """

    is_causal = True

    def __init__(self, config: GSLMConfig, layer_index: int) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = layer_index
        self.num_heads = config.num_attention_heads
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.k_proj = AttentionProjection(config.hidden_size, gain=2**-0.5)
        self.v_proj = AttentionProjection(config.hidden_size, gain=2**-0.5)
        self.q_proj = AttentionProjection(config.hidden_size, gain=2**-0.5)
        self.out_proj = AttentionProjection(config.hidden_size, gain=1.0)

    def split_heads(self, states: Tensor) -> Tensor:
        """`(…, D)` to `(…, H, D/H)`."""
        return states.unflatten(-1, (self.num_heads, self.head_dim))

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None,
        prompt_keys: Tensor | None,
        prompt_values: Tensor | None,
        cache: Cache | None,
        positions_to_keep: Tensor | None,
        read: KeysAndValues | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend.

        Args:
            hidden_states (`Tensor` of shape `(B, N, D)`): normalised states.
            attention_mask (`Tensor` of shape `(B, 1, N or K, P + past + N)`, *optional*): from `make_attention_mask`.
            prompt_keys (`Tensor` of shape `(P, H, D/H)` or `(B, P, H, D/H)`, *optional*): keys of the prompt.
            prompt_values (`Tensor` of the same shape, *optional*): values of the prompt.
            cache (`Cache`, *optional*): past keys and values of tokens; extended in place.
            positions_to_keep (`LongTensor` of shape `(B, K)`, *optional*): only these queries are computed.
            read (`KeysAndValues`, *optional*): of utterances that were read before; they are seen behind the prompt.

        Returns:
            `tuple[Tensor, Tensor | None]`: states of shape `(B, N or K, D)`, and attention weights where the
            implementation gives them.
        """
        keys = self.split_heads(self.k_proj(hidden_states)).transpose(1, 2)
        values = self.split_heads(self.v_proj(hidden_states)).transpose(1, 2)
        if positions_to_keep is not None:
            hidden_states = take_positions(hidden_states, positions_to_keep)
        queries = self.split_heads(self.q_proj(hidden_states)).transpose(1, 2)
        if cache is not None:
            keys, values = cache.update(keys, values, self.layer_idx)
        dropout = self.config.attention_dropout if self.training else 0.0
        if read is not None:
            parts = parts_of_layer(prompt_keys, prompt_values, read, (keys, values))
            context = attend_in_parts(queries, parts, attention_mask, scaling=self.scaling, dropout=dropout)
            return self.out_proj(context.flatten(-2)), None
        if prompt_keys is not None and prompt_values is not None:
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
