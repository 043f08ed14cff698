"""What prompts reach in GSLM, and how it reads utterances and labels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar, cast

from torch import nn

from .decoder_layer import GSLMDecoderLayer
from .decoder_only_reading import DecoderOnlyReading
from .gslm_decoder import GSLMModel, GSLMPreTrainedModel
from .unit_language_model import PromptLayer, in_own_precision

__all__ = ["GSLMReading"]


class GSLMReading(GSLMPreTrainedModel, DecoderOnlyReading):
    """`UnitLanguageModel` of `GSLMForCausalLM`."""

    function_fields: ClassVar[tuple[str, ...]] = (
        "num_attention_heads",
        "activation_function",
        "scale_embedding",
        "layer_norm_eps",
        "tie_word_embeddings",
    )
    model: GSLMModel

    def prompt_layers(self) -> Sequence[PromptLayer]:
        """The self-attention of every decoder layer."""
        heads = self.config.num_attention_heads
        return [
            PromptLayer(
                normalize=partial(in_own_precision, layer.self_attn_layer_norm),
                k_proj=layer.self_attn.k_proj,
                v_proj=layer.self_attn.v_proj,
                num_heads=heads,
                head_dim=self.config.hidden_size // heads,
            )
            for layer in self._layers()
        ]

    def checkpointing_modules(self) -> Sequence[nn.Module]:
        """The decoder and its layers; their dropouts are modules of their own."""
        return [self.model, *self.model.layers]

    def _layers(self) -> list[GSLMDecoderLayer]:
        return cast(list[GSLMDecoderLayer], list(self.model.layers))
