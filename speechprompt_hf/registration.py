"""The one place where models and processors meet: the Auto classes learn both."""

from __future__ import annotations

from .audio_pipeline import register_pipeline
from .modeling.auto import register_auto_classes as register_models
from .modeling.configuration_gslm import GSLMConfig
from .modeling.configuration_speechprompt import SpeechPromptConfig
from .processors.auto import register as register_processors

__all__ = ["register_auto_classes"]


def register_auto_classes() -> None:
    """Make the Auto classes know this package; calling it twice is harmless."""
    register_models()
    register_processors([GSLMConfig, SpeechPromptConfig])
    register_pipeline()
