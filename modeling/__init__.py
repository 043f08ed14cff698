"""Reached as ``speechprompt_hf.modeling``; this folder at the top level is its source."""

if not __name__.startswith("speechprompt_hf."):
    # A second import path would make a second copy of every class, which transformers' registries tell apart.
    raise ImportError(f"import speechprompt_hf.{__name__}, not {__name__}")

from .auto import register_auto_classes
from .configuration_gslm import GSLMConfig
from .configuration_speechprompt import SpeechPromptConfig
from .configuration_unit_causal_lm import UnitCausalLMConfig
from .configuration_unit_mbart import UnitMBartConfig
from .modeling_for_audio_classification import SpeechPromptForAudioClassification
from .modeling_for_sequence_generation import SpeechPromptForSequenceGeneration
from .modeling_for_speech_generation import SpeechPromptForSpeechGeneration
from .modeling_gslm import GSLMForCausalLM, GSLMModel
from .modeling_unit_causal_lm import UnitCausalLMForCausalLM, UnitCausalLMModel
from .modeling_unit_mbart import UnitMBartForConditionalGeneration, UnitMBartModel
from .prompt_deep import DeepPrompt
from .prompt_input import InputPrompt
from .prompt_states import PromptStates
from .verbalizers import VerbalizerHead

__all__ = [
    "DeepPrompt",
    "GSLMConfig",
    "GSLMForCausalLM",
    "GSLMModel",
    "InputPrompt",
    "PromptStates",
    "SpeechPromptConfig",
    "SpeechPromptForAudioClassification",
    "SpeechPromptForSequenceGeneration",
    "SpeechPromptForSpeechGeneration",
    "UnitCausalLMConfig",
    "UnitCausalLMForCausalLM",
    "UnitCausalLMModel",
    "UnitMBartConfig",
    "UnitMBartForConditionalGeneration",
    "UnitMBartModel",
    "VerbalizerHead",
    "register_auto_classes",
]
