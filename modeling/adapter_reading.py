"""Reading what an adapter's folder or repository says of itself."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..core.errors import AdapterError, FingerprintMismatchError
from .adapter_files import find_file
from .base_loading import load_base
from .configuration_speechprompt import SpeechPromptConfig
from .unit_language_model import UnitLanguageModel
from .untrusted import check_config_values, check_finite, read_config_file

__all__ = ["LANGUAGE_MODEL_FOLDER", "load_language_model", "mismatches", "read_config"]

LANGUAGE_MODEL_FOLDER = "language_model"
"""Where the method `"finetune"` saves its language model, inside the folder of the model."""


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
        AdapterError: there is none, or it is no adapter's.
    """
    path = None if os.path.isfile(name) else find_file(name, "config.json", **hub)
    if path is None:
        raise _no_adapter(name)
    values = read_config_file(path)
    if values.get("model_type") != SpeechPromptConfig.model_type:
        raise AdapterError(
            f"{name} holds a model of type {values.get('model_type')!r}, not {SpeechPromptConfig.model_type!r}",
            hint="train an adapter on it first: speechprompt train --base …",
        )
    check_config_values(values, name)
    return SpeechPromptConfig.from_dict(values)


def _no_adapter(name: str) -> AdapterError:
    if os.path.isfile(name):
        found = "is a file"
    elif os.path.isdir(name):
        found = "has no config.json"
    else:
        found = "is no folder here, and no config.json of it was found on the Hub"
    return AdapterError(
        f"{name} {found}",
        hint="give the folder that speechprompt train wrote, or a Hub id; "
        "a plain PEFT adapter is opened with peft.PeftModel.from_pretrained",
    )


def load_language_model(name: str, hub: dict[str, Any], options: dict[str, Any]) -> UnitLanguageModel:
    """The language model that a fine-tuned adapter holds, checked like any base."""
    subfolder = "/".join(part for part in (hub.get("subfolder"), LANGUAGE_MODEL_FOLDER) if part)
    lm = load_base(name, **{**hub, "subfolder": subfolder}, **options)
    check_finite(lm.state_dict(), f"{LANGUAGE_MODEL_FOLDER}/model.safetensors", name)
    return lm
