"""Reached as ``speechprompt_hf.modeling``; this folder at the top level is its source."""

if not __name__.startswith("speechprompt_hf."):
    # A second import path would make a second copy of every class, which transformers' registries tell apart.
    raise ImportError(f"import speechprompt_hf.{__name__}, not {__name__}")

from .auto import register_auto_classes
from .configuration_gslm import GSLMConfig
from .modeling_gslm import GSLMForCausalLM, GSLMModel
from .prompt_states import PromptStates

__all__ = ["GSLMConfig", "GSLMForCausalLM", "GSLMModel", "PromptStates"]

register_auto_classes()
