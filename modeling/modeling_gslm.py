"""The generative spoken language model: fairseq's `transformer_lm_big` with a tied output head."""

from __future__ import annotations

from torch import nn
from transformers import GenerationMixin

from .configuration_gslm import GSLMConfig
from .decoder_only_head import DecoderOnlyHead
from .gslm_decoder import GSLMModel, GSLMPreTrainedModel
from .gslm_reading import GSLMReading

__all__ = ["GSLMForCausalLM", "GSLMModel", "GSLMPreTrainedModel"]


# transformers sees that a model generates by the name GenerationMixin among its bases.
class GSLMForCausalLM(DecoderOnlyHead, GSLMReading, GenerationMixin):
    """Unit language model with a tied output head.

    Args:
        config (`GSLMConfig`): sizes.
    """

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012 - transformers' own convention

    def __init__(self, config: GSLMConfig) -> None:
        super().__init__(config)
        self.model = GSLMModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()
