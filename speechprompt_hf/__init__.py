"""Prompting of speech language models, as an extension of transformers and PEFT.

Importing this package registers its models and processors, so that `AutoModel`, `AutoModelForAudioClassification`,
`AutoModelForSpeechSeq2Seq`, `AutoProcessor` and `pipeline` open saved adapters. Public names are loaded when they are
first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .core.extras import check_torchaudio
from .version import __version__

# transformers imports torchaudio wherever it is installed: a broken one has to be named before HuBERT fails with it.
check_torchaudio()

from .registration import register_auto_classes  # noqa: E402

register_auto_classes()

_MODULE_OF = {
    "DEFAULT_BASE": "core.embedded",
    "GSLMConfig": "modeling.configuration_gslm",
    "GSLMForCausalLM": "modeling.modeling_gslm",
    "GSLMModel": "modeling.modeling_gslm",
    "SequenceTask": "tasks.sequence_task",
    "SpeechPromptConfig": "modeling.configuration_speechprompt",
    "SpeechPromptError": "core.errors",
    "SpeechPromptForAudioClassification": "modeling.modeling_for_audio_classification",
    "SpeechPromptForSequenceGeneration": "modeling.modeling_for_sequence_generation",
    "SpeechPromptForSpeechGeneration": "modeling.modeling_for_speech_generation",
    "SpeechPromptServer": "serving",
    "SpeechUnitFeatureExtractor": "processors.feature_extraction_speech_units",
    "SpeechUnitProcessor": "processors.processing_speech_units",
    "Task": "tasks.task",
    "UNIT_MBART_BASE": "core.embedded",
    "UnitEncoder": "processors.unit_encoder",
    "UnitHifiGan": "modeling.modeling_unit_hifigan",
    "UnitHifiGanConfig": "modeling.configuration_unit_hifigan",
    "UnitMBartConfig": "modeling.configuration_unit_mbart",
    "UnitMBartForConditionalGeneration": "modeling.modeling_unit_mbart",
    "UnitMBartModel": "modeling.modeling_unit_mbart",
    "UnitSequence": "core.units",
    "UnitTokenizer": "processors.tokenization_units",
    "UnitVocabulary": "core.vocabulary",
    "UnitVocos": "modeling.modeling_unit_vocos",
    "UnitVocosConfig": "modeling.configuration_unit_vocos",
    "VerbalizerHead": "modeling.verbalizers",
}

__all__ = ["__version__", *sorted(_MODULE_OF)]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
