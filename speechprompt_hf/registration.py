"""The one place where models and processors meet: the Auto classes learn both."""

from __future__ import annotations

from transformers import AutoConfig, AutoModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from .audio_pipeline import register_pipelines
from .modeling.auto import register_auto_classes as register_models
from .modeling.configuration_gslm import GSLMConfig
from .modeling.configuration_speechprompt import SpeechPromptConfig
from .modeling.configuration_unit_causal_lm import UnitCausalLMConfig
from .modeling.configuration_unit_hifigan import UnitHifiGanConfig
from .modeling.configuration_unit_mbart import UnitMBartConfig
from .modeling.configuration_unit_vocos import UnitVocosConfig
from .modeling.modeling_unit_hifigan import UnitHifiGan
from .modeling.modeling_unit_vocos import UnitVocos
from .processors.auto import register as register_processors

__all__ = ["register_auto_classes"]


def register_auto_classes() -> None:
    """Make the Auto classes know this package; calling it twice is harmless.

    Where code that a repository carries was loaded before, this package takes its place.
    """
    own = (GSLMConfig, UnitCausalLMConfig, UnitMBartConfig, SpeechPromptConfig)
    # Processors are found by the name of their class, the one that was registered first: its places are taken too.
    before = [CONFIG_MAPPING[each.model_type] for each in own if each.model_type in CONFIG_MAPPING]
    register_models()
    # Vocoders travel with no base, so they are not among the models whose code does.
    AutoConfig.register(UnitHifiGanConfig.model_type, UnitHifiGanConfig, exist_ok=True)
    AutoModel.register(UnitHifiGanConfig, UnitHifiGan, exist_ok=True)
    AutoConfig.register(UnitVocosConfig.model_type, UnitVocosConfig, exist_ok=True)
    AutoModel.register(UnitVocosConfig, UnitVocos, exist_ok=True)
    register_processors([*before, *own])
    register_pipelines()
