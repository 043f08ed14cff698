"""One layer of the unit language model."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import Cache
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention import GSLMAttention, take_positions
from .attention_parts import KeysAndValues
from .configuration_gslm import GSLMConfig

__all__ = ["GSLMDecoderLayer"]


class GSLMDecoderLayer(GradientCheckpointingLayer):
    """Pre-norm decoder layer: attention and a feed-forward network, each with a residual connection."""

    def __init__(self, config: GSLMConfig, layer_index: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.activation_dropout = nn.Dropout(config.activation_dropout)
        self.self_attn = GSLMAttention(config, layer_index)
        self.self_attn_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.activation = ACT2FN[config.activation_function]
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        prompt_keys: Tensor | None = None,
        prompt_values: Tensor | None = None,
        positions_to_keep: Tensor | None = None,
        cache: Cache | None = None,
        read: KeysAndValues | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """States of shape `(B, N or K, D)` and attention weights; arguments as in `GSLMAttention.forward`."""
        attended, weights = self.self_attn(
            self.self_attn_layer_norm(hidden_states),
            attention_mask,
            prompt_keys,
            prompt_values,
            cache,
            positions_to_keep,
            read,
        )
        if positions_to_keep is not None:
            hidden_states = take_positions(hidden_states, positions_to_keep)
        hidden_states = hidden_states + self.dropout(attended)
        inner = self.activation(self.fc1(self.final_layer_norm(hidden_states)))
        inner = self.fc2(self.activation_dropout(inner))
        return hidden_states + self.dropout(inner), weights
