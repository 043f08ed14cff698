"""Registration with AutoProcessor, AutoFeatureExtractor and AutoTokenizer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .feature_extraction_speech_units import SpeechUnitFeatureExtractor
from .processing_speech_units import SpeechUnitProcessor
from .tokenization_units import UnitTokenizer

__all__ = ["register"]


def register(config_classes: Iterable[type[Any]]) -> None:
    """Let the Auto classes find the processors of these models.

    Saved folders name their classes (`processor_class`, `feature_extractor_type`, `tokenizer_class`); the Auto classes
    look such names up among everything registered, so one config class is enough for all folders.

    Args:
        config_classes (`Iterable[type[PreTrainedConfig]]`): configs of the models that take units.
    """
    from transformers import AutoFeatureExtractor, AutoProcessor, AutoTokenizer

    for config_class in config_classes:
        AutoFeatureExtractor.register(config_class, SpeechUnitFeatureExtractor, exist_ok=True)
        AutoTokenizer.register(config_class, tokenizer_class=UnitTokenizer, exist_ok=True)
        AutoProcessor.register(config_class, SpeechUnitProcessor, exist_ok=True)
