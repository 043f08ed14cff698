"""Registration with transformers' Auto classes."""

from __future__ import annotations

import os
from typing import Any

from peft import PeftModel
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
)

from ..core.errors import AdapterError
from .adapter_files import HUB_KEYS, find_file, read_peft_config
from .base_loading import check_base, load_base
from .configuration_gslm import GSLMConfig
from .configuration_speechprompt import SpeechPromptConfig
from .configuration_unit_causal_lm import UnitCausalLMConfig
from .configuration_unit_mbart import UnitMBartConfig
from .modeling_for_audio_classification import SpeechPromptForAudioClassification
from .modeling_gslm import GSLMForCausalLM, GSLMModel
from .modeling_unit_causal_lm import UnitCausalLMForCausalLM, UnitCausalLMModel
from .modeling_unit_mbart import UnitMBartForConditionalGeneration, UnitMBartModel

__all__ = [
    "GSLMForAudioClassification",
    "SpeechPromptForCausalLM",
    "SpeechPromptForSeq2SeqLM",
    "UnitCausalLMForAudioClassification",
    "UnitMBartForAudioClassification",
    "register_auto_classes",
]


class SpeechPromptForCausalLM(SpeechPromptForAudioClassification):
    """The prompted language model of an adapter without its verbalizer: a stock `PeftModelForCausalLM`."""

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | os.PathLike[str], *args: Any, **kwargs: Any
    ) -> Any:
        """Open an adapter's base and put PEFT's own model around it.

        Args:
            pretrained_model_name_or_path (`str | PathLike`): folder or Hub id of the adapter.
            args: ignored.
            kwargs: `dtype`, `trust_remote_code`, `output_loading_info` and where to find files; others are ignored.

        Raises:
            AdapterError: the folder holds no prompt.
            FingerprintMismatchError: the base has other weights than those that the adapter was trained on.
        """
        adapter_kwargs = dict(kwargs.pop("adapter_kwargs", None) or {})
        name = os.fspath(adapter_kwargs.get("_adapter_model_path") or pretrained_model_name_or_path)
        hub = {
            key: value for key, value in {**kwargs, **adapter_kwargs}.items() if key in HUB_KEYS and value is not None
        }
        peft_config = read_peft_config(name, **hub)
        if peft_config is None or peft_config.base_model_name_or_path is None:
            raise AdapterError(
                f"{name} holds no prompt that names its base",
                hint="only adapters of method 'prompt' are language models",
            )
        base_hub = {key: value for key, value in hub.items() if key not in ("revision", "subfolder")}
        lm = load_base(
            peft_config.base_model_name_or_path,
            revision=peft_config.revision,
            dtype=kwargs.get("dtype"),
            trust_remote_code=kwargs.get("trust_remote_code"),
            **base_hub,
        )
        if find_file(name, "config.json", **hub) is not None:
            recorded = SpeechPromptConfig.from_pretrained(name, **hub).base_fingerprint
            check_base(lm, recorded, str(peft_config.base_model_name_or_path))
        model = PeftModel.from_pretrained(lm, name, **hub).eval()
        info: dict[str, Any] = {"missing_keys": set(), "unexpected_keys": set(), "mismatched_keys": set()}
        return (model, info) if kwargs.get("output_loading_info") else model


class SpeechPromptForSeq2SeqLM(SpeechPromptForCausalLM):
    """The same for an adapter of an encoder-decoder base: a stock `PeftModelForSeq2SeqLM`."""


class _ClassifierDoor:
    """What the Auto class for audio classification finds for a base: a door to its adapters, no classifier."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Open an adapter that the Auto class came from.

        Raises:
            AdapterError: the name is a plain base's.
        """
        if not (kwargs.get("adapter_kwargs") or {}).get("_adapter_model_path"):
            raise AdapterError(
                f"{pretrained_model_name_or_path} is a unit language model without a prompt, and classifies nothing",
                hint="train an adapter on it: SpeechPromptForAudioClassification.from_base(…) or speechprompt train",
            )
        return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)  # type: ignore[misc]


class GSLMForAudioClassification(_ClassifierDoor, GSLMModel):
    """Opens adapters of a GSLM."""


class UnitCausalLMForAudioClassification(_ClassifierDoor, UnitCausalLMModel):
    """Opens adapters of a wrapped language model."""


class UnitMBartForAudioClassification(_ClassifierDoor, UnitMBartModel):
    """Opens adapters of a Unit mBART."""


# Classes of a base hand an adapter over to the class of its own that does the same.
GSLMModel.opens = SpeechPromptForAudioClassification
GSLMForAudioClassification.opens = SpeechPromptForAudioClassification
GSLMForCausalLM.opens = SpeechPromptForCausalLM
UnitCausalLMModel.opens = SpeechPromptForAudioClassification
UnitCausalLMForAudioClassification.opens = SpeechPromptForAudioClassification
UnitCausalLMForCausalLM.opens = SpeechPromptForCausalLM
UnitMBartModel.opens = SpeechPromptForAudioClassification
UnitMBartForAudioClassification.opens = SpeechPromptForAudioClassification
UnitMBartForConditionalGeneration.opens = SpeechPromptForSeq2SeqLM


def register_auto_classes() -> None:
    """Make the Auto classes know this package's models; calling it twice is harmless."""
    AutoConfig.register(GSLMConfig.model_type, GSLMConfig, exist_ok=True)
    AutoConfig.register(UnitCausalLMConfig.model_type, UnitCausalLMConfig, exist_ok=True)
    AutoConfig.register(UnitMBartConfig.model_type, UnitMBartConfig, exist_ok=True)
    AutoConfig.register(SpeechPromptConfig.model_type, SpeechPromptConfig, exist_ok=True)
    AutoModel.register(GSLMConfig, GSLMModel, exist_ok=True)
    AutoModel.register(UnitCausalLMConfig, UnitCausalLMModel, exist_ok=True)
    AutoModel.register(UnitMBartConfig, UnitMBartModel, exist_ok=True)
    AutoModel.register(SpeechPromptConfig, SpeechPromptForAudioClassification, exist_ok=True)
    AutoModelForCausalLM.register(GSLMConfig, GSLMForCausalLM, exist_ok=True)
    AutoModelForCausalLM.register(UnitCausalLMConfig, UnitCausalLMForCausalLM, exist_ok=True)
    AutoModelForCausalLM.register(SpeechPromptConfig, SpeechPromptForCausalLM, exist_ok=True)
    AutoModelForAudioClassification.register(GSLMConfig, GSLMForAudioClassification, exist_ok=True)
    AutoModelForSeq2SeqLM.register(UnitMBartConfig, UnitMBartForConditionalGeneration, exist_ok=True)
    AutoModelForSeq2SeqLM.register(SpeechPromptConfig, SpeechPromptForSeq2SeqLM, exist_ok=True)
    AutoModelForAudioClassification.register(UnitCausalLMConfig, UnitCausalLMForAudioClassification, exist_ok=True)
    AutoModelForAudioClassification.register(UnitMBartConfig, UnitMBartForAudioClassification, exist_ok=True)
    AutoModelForAudioClassification.register(SpeechPromptConfig, SpeechPromptForAudioClassification, exist_ok=True)
