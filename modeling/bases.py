"""The architectures that a prompt can steer, by `model_type`."""

from __future__ import annotations

from .modeling_gslm import GSLMForCausalLM
from .modeling_unit_causal_lm import UnitCausalLMForCausalLM
from .modeling_unit_mbart import UnitMBartForConditionalGeneration
from .unit_language_model import UnitLanguageModel

__all__ = ["base_class", "base_types"]

_CLASSES: tuple[type[UnitLanguageModel], ...] = (
    GSLMForCausalLM,
    UnitCausalLMForCausalLM,
    UnitMBartForConditionalGeneration,
)


def base_types() -> list[str]:
    """The `model_type` of every architecture."""
    return [_type(cls) for cls in _CLASSES]


def base_class(model_type: object) -> type[UnitLanguageModel] | None:
    """The class of a `model_type`, or `None` where it is no base."""
    return next((cls for cls in _CLASSES if _type(cls) == model_type), None)


def _type(cls: type[UnitLanguageModel]) -> str:
    assert cls.config_class is not None
    return cls.config_class.model_type
