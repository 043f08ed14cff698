"""Registration with transformers' Auto classes."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from peft import PeftModel
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSpeechSeq2Seq,
)

from ..core.errors import AdapterError
from .adapter_files import HUB_KEYS, find_file, pinned, read_peft_config
from .adapter_reading import read_config
from .base_loading import check_base, load_base
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

__all__ = [
    "GSLMForAudioClassification",
    "GSLMForSpeechSeq2Seq",
    "SpeechPromptForCausalLM",
    "SpeechPromptForSeq2SeqLM",
    "SpeechPromptModel",
    "UnitCausalLMForAudioClassification",
    "UnitCausalLMForSpeechSeq2Seq",
    "UnitMBartForAudioClassification",
    "UnitMBartForSpeechSeq2Seq",
    "register_auto_classes",
]


_CLASS_OF_PURPOSE: dict[str, Any] = {
    each.purpose: each
    for each in (
        SpeechPromptForAudioClassification,
        SpeechPromptForSequenceGeneration,
        SpeechPromptForSpeechGeneration,
    )
}


class SpeechPromptModel(SpeechPromptForAudioClassification):
    """What `AutoModel` opens an adapter with: the class that the adapter was made by."""

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | os.PathLike[str], *args: Any, **kwargs: Any
    ) -> Any:
        """Open an adapter as what it is.

        Args:
            pretrained_model_name_or_path (`str | PathLike`): folder or Hub id of the adapter.
            *args: of `SpeechPromptPreTrainedModel.from_pretrained`.
            **kwargs: of `SpeechPromptPreTrainedModel.from_pretrained`.

        Raises:
            AdapterError: a file is missing or does not fit.
        """
        adapter_kwargs = dict(kwargs.get("adapter_kwargs") or {})
        name = os.fspath(adapter_kwargs.get("_adapter_model_path") or pretrained_model_name_or_path)
        hub = {
            key: value for key, value in {**kwargs, **adapter_kwargs}.items() if key in HUB_KEYS and value is not None
        }
        opens = _CLASS_OF_PURPOSE[read_config(name, **pinned(name, hub)).purpose]
        return opens.from_pretrained(pretrained_model_name_or_path, *args, **kwargs)


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


class _TaskDoor:
    """What the Auto classes of tasks find for a base: a door to its adapters; a base alone does no task."""

    opens: ClassVar[Any]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Open an adapter that the Auto class came from.

        Raises:
            AdapterError: the name is a plain base's.
        """
        if not (kwargs.get("adapter_kwargs") or {}).get("_adapter_model_path"):
            raise AdapterError(
                f"{pretrained_model_name_or_path} is a unit language model without a prompt, and "
                + ("says no sequences" if cls.opens.says_sequences else "classifies nothing"),
                hint=f"train an adapter on it: {cls.opens.__name__}.from_base(…) or speechprompt train",
            )
        return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)  # type: ignore[misc]


class GSLMForAudioClassification(_TaskDoor, GSLMModel):
    """Opens adapters of a GSLM."""


class UnitCausalLMForAudioClassification(_TaskDoor, UnitCausalLMModel):
    """Opens adapters of a wrapped language model."""


class UnitMBartForAudioClassification(_TaskDoor, UnitMBartModel):
    """Opens adapters of a Unit mBART."""


class GSLMForSpeechSeq2Seq(_TaskDoor, GSLMModel):
    """Opens adapters of a GSLM that say sequences."""


class UnitCausalLMForSpeechSeq2Seq(_TaskDoor, UnitCausalLMModel):
    """Opens adapters of a wrapped language model that say sequences."""


class UnitMBartForSpeechSeq2Seq(_TaskDoor, UnitMBartModel):
    """Opens adapters of a Unit mBART that say sequences."""


# Classes of a base hand an adapter over to the class of its own that does the same.
GSLMModel.opens = SpeechPromptModel
GSLMForSpeechSeq2Seq.opens = SpeechPromptForSequenceGeneration
GSLMForAudioClassification.opens = SpeechPromptForAudioClassification
GSLMForCausalLM.opens = SpeechPromptForCausalLM
UnitCausalLMModel.opens = SpeechPromptModel
UnitCausalLMForSpeechSeq2Seq.opens = SpeechPromptForSequenceGeneration
UnitCausalLMForAudioClassification.opens = SpeechPromptForAudioClassification
UnitCausalLMForCausalLM.opens = SpeechPromptForCausalLM
UnitMBartModel.opens = SpeechPromptModel
UnitMBartForSpeechSeq2Seq.opens = SpeechPromptForSequenceGeneration
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
    AutoModel.register(SpeechPromptConfig, SpeechPromptModel, exist_ok=True)
    AutoModelForSpeechSeq2Seq.register(GSLMConfig, GSLMForSpeechSeq2Seq, exist_ok=True)
    AutoModelForSpeechSeq2Seq.register(UnitCausalLMConfig, UnitCausalLMForSpeechSeq2Seq, exist_ok=True)
    AutoModelForSpeechSeq2Seq.register(UnitMBartConfig, UnitMBartForSpeechSeq2Seq, exist_ok=True)
    AutoModelForSpeechSeq2Seq.register(SpeechPromptConfig, SpeechPromptForSequenceGeneration, exist_ok=True)
    AutoModelForCausalLM.register(GSLMConfig, GSLMForCausalLM, exist_ok=True)
    AutoModelForCausalLM.register(UnitCausalLMConfig, UnitCausalLMForCausalLM, exist_ok=True)
    AutoModelForCausalLM.register(SpeechPromptConfig, SpeechPromptForCausalLM, exist_ok=True)
    AutoModelForAudioClassification.register(GSLMConfig, GSLMForAudioClassification, exist_ok=True)
    AutoModelForSeq2SeqLM.register(UnitMBartConfig, UnitMBartForConditionalGeneration, exist_ok=True)
    AutoModelForSeq2SeqLM.register(SpeechPromptConfig, SpeechPromptForSeq2SeqLM, exist_ok=True)
    AutoModelForAudioClassification.register(UnitCausalLMConfig, UnitCausalLMForAudioClassification, exist_ok=True)
    AutoModelForAudioClassification.register(UnitMBartConfig, UnitMBartForAudioClassification, exist_ok=True)
    AutoModelForAudioClassification.register(SpeechPromptConfig, SpeechPromptForAudioClassification, exist_ok=True)
