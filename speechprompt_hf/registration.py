"""The one place where models and processors meet: the Auto classes learn both."""

from __future__ import annotations

from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from .audio_pipeline import register_pipeline
from .modeling.auto import register_auto_classes as register_models
from .modeling.configuration_gslm import GSLMConfig
from .modeling.configuration_speechprompt import SpeechPromptConfig
from .processors.auto import register as register_processors

__all__ = ["register_auto_classes"]


def register_auto_classes() -> None:
    """Make the Auto classes know this package; calling it twice is harmless.

    Where code that a repository carries was loaded before, this package takes its place.
    """
    own = (GSLMConfig, SpeechPromptConfig)
    # Processors are found by the name of their class, the one that was registered first: its places are taken too.
    before = [CONFIG_MAPPING[each.model_type] for each in own if each.model_type in CONFIG_MAPPING]
    register_models()
    register_processors([*before, *own])
    register_pipeline()
