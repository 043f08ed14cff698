"""Registration with transformers' Auto classes."""

from __future__ import annotations

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from .configuration_gslm import GSLMConfig
from .modeling_gslm import GSLMForCausalLM, GSLMModel

__all__ = ["register_auto_classes"]


def register_auto_classes() -> None:
    """Make the Auto classes know this package's models; calling it twice is harmless."""
    AutoConfig.register(GSLMConfig.model_type, GSLMConfig, exist_ok=True)
    AutoModel.register(GSLMConfig, GSLMModel, exist_ok=True)
    AutoModelForCausalLM.register(GSLMConfig, GSLMForCausalLM, exist_ok=True)
