"""The base of an official prompt: its language model, the order of its units, and what makes them of recordings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..core.embedded import resolve_base
from ..core.vocabulary import UnitVocabulary
from ..modeling.adapter_reading import load_processor
from ..modeling.base_loading import base_vocabulary, load_base, public_base_name
from ..modeling.modeling_gslm import GSLMForCausalLM
from ..modeling.unit_language_model import UnitLanguageModel
from .errors import ConversionError

__all__ = ["Base", "load_gslm", "processor_of_base", "vocabulary_of_base"]

Base = str | os.PathLike[str] | UnitLanguageModel
"""Folder, Hub id or name of a base, or the model itself."""


def load_gslm(base: Base, revision: str | None) -> UnitLanguageModel:
    """The language model of the base.

    Args:
        base (`str | PathLike | UnitLanguageModel`): as the caller gave it.
        revision (`str`, *optional*): on the Hub.

    Raises:
        ConversionError: it is no GSLM.
        AdapterError: there is no such base.
    """
    lm = load_base(base, revision=revision)
    if not isinstance(lm, GSLMForCausalLM):
        raise ConversionError(
            f"the base {base if isinstance(base, str | Path) else 'given'} is a {type(lm).__name__}",
            hint="official prompts belong to GSLM: convert its language model first",
        )
    return lm


def vocabulary_of_base(base: Base, lm: UnitLanguageModel, dictionary: str | Path | None) -> UnitVocabulary:
    """Which token each unit is.

    Args:
        base (`str | PathLike | UnitLanguageModel`): as the caller gave it.
        lm (`UnitLanguageModel`): its language model.
        dictionary (`str | Path`, *optional*): fairseq's `dict.txt`, instead of the base's.

    Raises:
        ConversionError: there is no dictionary, or it has another number of units than the base.
    """
    if dictionary is not None:
        if not Path(dictionary).is_file():
            raise ConversionError(f"there is no dictionary {dictionary}", hint="check the spelling")
        vocabulary: UnitVocabulary | None = UnitVocabulary.from_dict_txt(dictionary)
    else:
        vocabulary = base_vocabulary(base)
    if vocabulary is None:
        raise ConversionError(
            "the base has no dict.txt, so nothing says which token a unit is",
            hint="give the dict.txt of the language model: dictionary=… (--dict)",
        )
    if len(vocabulary) != lm.config.vocab_size:
        raise ConversionError(
            f"the dictionary makes {len(vocabulary)} tokens, the base has {lm.config.vocab_size}",
            hint="it belongs to another language model",
        )
    return vocabulary


def processor_of_base(base: Base, revision: str | None, vocabulary: UnitVocabulary) -> Any:
    """What makes the base's units of recordings.

    Args:
        base (`str | PathLike | UnitLanguageModel`): as the caller gave it.
        revision (`str`, *optional*): on the Hub.
        vocabulary (`UnitVocabulary`): of the prompt's labels.

    Returns:
        `SpeechUnitProcessor | None`: `None` where the base is a language model alone.

    Raises:
        ConversionError: its units are in another order than the vocabulary's.
        ConfigurationError: a file of it is damaged.
    """
    name = public_base_name(base)
    if name is None:
        return None
    location = resolve_base(name)
    if os.path.isabs(location) and not os.path.isdir(location):
        return None
    processor = load_processor(location, {} if revision is None else {"revision": revision})
    if processor is not None and processor.tokenizer.vocabulary.symbols != vocabulary.symbols:
        raise ConversionError(
            f"the dictionary has other units than the processor in {name}, or the same in another order",
            hint="it belongs to another language model: leave it out (dictionary=…, --dict)",
        )
    return processor
