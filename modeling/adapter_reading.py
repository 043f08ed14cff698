"""Reading what an adapter's folder or repository says of itself."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache
from transformers import AutoProcessor

from ..core.errors import AdapterError, FingerprintMismatchError, SpeechPromptError
from ..core.locations import not_reached
from ..core.vocabulary import UnitVocabulary
from .adapter_files import VOCABULARY, find_file
from .base_loading import load_base
from .configuration_speechprompt import SpeechPromptConfig
from .unit_language_model import UnitLanguageModel
from .untrusted import check_config_values, check_finite, read_config_file

__all__ = [
    "LANGUAGE_MODEL_FOLDER",
    "load_language_model",
    "load_processor",
    "load_vocabulary",
    "mismatches",
    "read_config",
]

LANGUAGE_MODEL_FOLDER = "language_model"
"""Where the method `"finetune"` saves its language model, inside the folder of the model."""

_PROCESSOR_FILES = ("processor_config.json", "tokenizer_config.json", "dict.txt")
_DOWNLOADING = ("cache_dir", "force_download", "local_files_only", "token")


@contextmanager
def mismatches(ignored: bool) -> Iterator[None]:
    """Let other weights or units pass with a warning, if that was asked for."""
    try:
        yield
    except FingerprintMismatchError as error:
        if not ignored:
            raise
        warnings.warn(f"ignored: {error}", UserWarning, stacklevel=3)


def read_config(name: str, **hub: Any) -> SpeechPromptConfig:
    """The configuration of a saved adapter.

    Args:
        name (`str`): folder or Hub id.
        hub: where and how files are found.

    Raises:
        AdapterError: there is none, it is no adapter's, or the Hub cannot be reached and it is not in the cache.
    """
    path = None if os.path.isfile(name) else find_file(name, "config.json", **hub)
    if path is None:
        raise _no_adapter(name, hub)
    values = read_config_file(path)
    if values.get("model_type") != SpeechPromptConfig.model_type:
        raise AdapterError(
            f"{name} holds a model of type {values.get('model_type')!r}, not {SpeechPromptConfig.model_type!r}",
            hint="train an adapter on it first: speechprompt train --base …",
        )
    check_config_values(values, name)
    return SpeechPromptConfig.from_dict(values)


def _no_adapter(name: str, hub: dict[str, Any]) -> SpeechPromptError:
    if os.path.isfile(name):
        found = "is a file"
    elif os.path.isdir(name):
        found = "has no config.json"
    elif not _is_recorded_as_absent(name, "config.json", hub):
        return not_reached(name, AdapterError, local_files_only=bool(hub.get("local_files_only")))
    else:
        found = "is no folder here, and no config.json of it was found on the Hub"
    return AdapterError(
        f"{name} {found}",
        hint="give the folder that speechprompt train wrote, or a Hub id; "
        "a plain PEFT adapter is opened with peft.PeftModel.from_pretrained",
    )


def _is_recorded_as_absent(name: str, file_name: str, hub: dict[str, Any]) -> bool:
    """Whether the Hub has said that a repository has no such file; the cache keeps that, too."""
    path = "/".join(part for part in (hub.get("subfolder"), file_name) if part)
    known = try_to_load_from_cache(name, path, cache_dir=hub.get("cache_dir"), revision=hub.get("revision"))
    return known is _CACHED_NO_EXIST


def load_processor(name: str, hub: dict[str, Any]) -> Any:
    """The processor that was saved beside an adapter; its encoder is read when it is first used.

    Args:
        name (`str`): folder or Hub id.
        hub (`dict`): where and how files are found.

    Returns:
        `SpeechUnitProcessor | None`: `None` where there is none.

    Raises:
        AdapterError: a file cannot be fetched.
        ConfigurationError: a file is damaged.
    """
    paths = [find_file(name, file_name, **hub) for file_name in _PROCESSOR_FILES]
    if paths[0] is None:
        return None
    # Its files are here now. Asked for more, transformers 5.24 looks on the Hub for chat templates, whatever is
    # cached, and tries for two minutes where there is no network.
    here = {**hub, "local_files_only": True, "force_download": False}
    processor = AutoProcessor.from_pretrained(name, **here)
    # Encoder and centroids are those of the base, which need not be here.
    processor.unit_encoder.hub_options = {key: hub[key] for key in _DOWNLOADING if hub.get(key)}
    return processor


def load_vocabulary(name: str, num_units: int, hub: dict[str, Any]) -> UnitVocabulary | None:
    """The vocabulary in an adapter's `dict.txt`; `None` where it has none, as those of older versions.

    Args:
        name (`str`): folder or Hub id.
        num_units (`int`): of the base.
        hub (`dict`): where and how files are found.

    Raises:
        AdapterError: it has another number of units than the base.
        VocabularyError: the file is damaged.
    """
    path = find_file(name, VOCABULARY, **hub)
    if path is None:
        return None
    vocabulary = UnitVocabulary.from_dict_txt(path)
    if vocabulary.num_units != num_units:
        raise AdapterError(
            f"{VOCABULARY} of {name} has {vocabulary.num_units} units, its base {num_units}",
            hint="the file belongs to another adapter: save the adapter again, or put the base's file there",
        )
    return vocabulary


def load_language_model(name: str, hub: dict[str, Any], options: dict[str, Any]) -> UnitLanguageModel:
    """The language model that a fine-tuned adapter holds, checked like any base."""
    subfolder = "/".join(part for part in (hub.get("subfolder"), LANGUAGE_MODEL_FOLDER) if part)
    lm = load_base(name, **{**hub, "subfolder": subfolder}, **options)
    check_finite(lm.state_dict(), f"{LANGUAGE_MODEL_FOLDER}/model.safetensors", name)
    return lm
