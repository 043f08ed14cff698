"""What a repository that carries this code offers to the Auto classes: one entry for every model and processor.

Every `auto_map` names this module and no other. transformers runs a module that it is sent to once more, even where it
was imported before, and a second copy of a class would not be recognised by the first.
"""

from __future__ import annotations

from typing import Any

from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from ..audio_pipeline import register_pipelines
from ..modeling.auto import (
    GSLMForAudioClassification,
    GSLMForSpeechSeq2Seq,
    SpeechPromptForCausalLM,
    SpeechPromptForSeq2SeqLM,
    SpeechPromptModel,
    UnitCausalLMForAudioClassification,
    UnitCausalLMForSpeechSeq2Seq,
    UnitMBartForAudioClassification,
    UnitMBartForSpeechSeq2Seq,
    register_auto_classes,
)
from ..modeling.configuration_gslm import GSLMConfig
from ..modeling.configuration_speechprompt import SpeechPromptConfig
from ..modeling.configuration_unit_causal_lm import UnitCausalLMConfig
from ..modeling.configuration_unit_mbart import UnitMBartConfig
from ..modeling.modeling_for_audio_classification import SpeechPromptForAudioClassification
from ..modeling.modeling_for_sequence_generation import SpeechPromptForSequenceGeneration
from ..modeling.modeling_for_speech_generation import SpeechPromptForSpeechGeneration
from ..modeling.modeling_gslm import GSLMForCausalLM, GSLMModel
from ..modeling.modeling_unit_causal_lm import UnitCausalLMForCausalLM, UnitCausalLMModel
from ..modeling.modeling_unit_mbart import UnitMBartForConditionalGeneration, UnitMBartModel
from ..processors.auto import register as register_processors
from ..processors.feature_extraction_speech_units import SpeechUnitFeatureExtractor
from ..processors.processing_speech_units import SpeechUnitProcessor
from ..processors.tokenization_units import UnitTokenizer

__all__ = [
    "GSLMConfig",
    "GSLMForAudioClassification",
    "GSLMForCausalLM",
    "GSLMForSpeechSeq2Seq",
    "GSLMModel",
    "SpeechPromptConfig",
    "SpeechPromptForAudioClassification",
    "SpeechPromptForCausalLM",
    "SpeechPromptForSeq2SeqLM",
    "SpeechPromptForSequenceGeneration",
    "SpeechPromptForSpeechGeneration",
    "SpeechPromptModel",
    "SpeechUnitFeatureExtractor",
    "SpeechUnitProcessor",
    "UnitCausalLMConfig",
    "UnitCausalLMForAudioClassification",
    "UnitCausalLMForCausalLM",
    "UnitCausalLMForSpeechSeq2Seq",
    "UnitCausalLMModel",
    "UnitMBartConfig",
    "UnitMBartForAudioClassification",
    "UnitMBartForConditionalGeneration",
    "UnitMBartForSpeechSeq2Seq",
    "UnitMBartModel",
    "UnitTokenizer",
    "register_unless_known",
]


def register_unless_known() -> bool:
    """Make the Auto classes know this copy, unless they know the installed package or another repository's copy.

    A loaded adapter opens its base and its processor through the Auto classes, too: they must find the same classes.

    Returns:
        `bool`: whether this copy was registered.
    """
    if GSLMConfig.model_type in CONFIG_MAPPING:
        return False
    register_auto_classes()
    register_processors([GSLMConfig, UnitCausalLMConfig, UnitMBartConfig, SpeechPromptConfig])
    register_pipelines()
    return True


def _stay_a_reference(auto_class: Any = None) -> None:
    """Instead of transformers' `register_for_auto_class`, after which saving copies code beside the saved files.

    What is saved goes on naming the base's code.
    """


if not __name__.startswith("speechprompt_hf."):
    register_unless_known()
    for _class in (
        GSLMConfig,
        SpeechPromptConfig,
        GSLMModel,
        GSLMForCausalLM,
        GSLMForAudioClassification,
        GSLMForSpeechSeq2Seq,
        UnitCausalLMConfig,
        UnitCausalLMModel,
        UnitCausalLMForCausalLM,
        UnitCausalLMForAudioClassification,
        UnitCausalLMForSpeechSeq2Seq,
        UnitMBartConfig,
        UnitMBartModel,
        UnitMBartForConditionalGeneration,
        UnitMBartForAudioClassification,
        UnitMBartForSpeechSeq2Seq,
        SpeechPromptModel,
        SpeechPromptForAudioClassification,
        SpeechPromptForSequenceGeneration,
        SpeechPromptForSpeechGeneration,
        SpeechPromptForCausalLM,
        SpeechPromptForSeq2SeqLM,
        SpeechUnitFeatureExtractor,
        SpeechUnitProcessor,
        UnitTokenizer,
    ):
        _class.register_for_auto_class = _stay_a_reference  # type: ignore[method-assign]
