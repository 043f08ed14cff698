"""How a saved adapter searches for what it says: the part of `generation_config.json` that strangers may set."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from transformers import GenerationConfig

from ..core.errors import AdapterError, ConfigurationError
from ..core.files import write_json
from .adapter_files import GENERATION, find_file
from .untrusted import read_config_file, shortened

__all__ = ["PLAIN_SEARCH", "check_generation_values", "load_generation_values", "save_generation_values"]

PLAIN_SEARCH = MappingProxyType(
    {
        "do_sample": False,
        "early_stopping": False,
        "length_penalty": 1.0,
        "no_repeat_ngram_size": 0,
        "num_beams": 1,
        "repetition_penalty": 1.0,
        "temperature": 1.0,
        "top_k": 50,
        "top_p": 1.0,
    }
)
"""The most probable token after another, whatever an adapter has saved: arguments of `generate`.

Measures, n-best lists and streams begin with them, so that what they say of a search is all that there is of it.
"""


def _whole(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value <= high


def _number(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: type(value) in (int, float) and low <= value <= high


# Lengths, tokens and code are no part: the first is the configuration's, the others the model's.
_ALLOWED: dict[str, Callable[[Any], bool]] = {
    "do_sample": lambda value: type(value) is bool,
    "early_stopping": lambda value: type(value) is bool or value == "never",
    "length_penalty": _number(-100.0, 100.0),
    "no_repeat_ngram_size": _whole(0, 1000),
    "num_beams": _whole(1, 1000),
    "repetition_penalty": _number(1e-3, 1000.0),
    "temperature": _number(0.0, 1000.0),
    "top_k": _whole(0, 1_000_000),
    "top_p": _number(0.0, 1.0),
}


def check_generation_values(config: GenerationConfig) -> dict[str, Any]:
    """What was set of the search, where it can be saved.

    Args:
        config (`GenerationConfig`): the model's.

    Returns:
        `dict`: those fields of `PLAIN_SEARCH` that were set.

    Raises:
        ConfigurationError: a value is of the wrong type or out of range, so that the adapter would not open again.
    """
    values, default = config.to_dict(), GenerationConfig().to_dict()
    chosen = {name: values.get(name) for name in _ALLOWED if values.get(name) not in (None, default.get(name))}
    for name in _out_of_range(chosen):
        raise ConfigurationError(
            f"generation_config.{name} is {shortened(chosen[name])}, which cannot be saved with an adapter",
            hint="give it to generate instead",
        )
    return chosen


def save_generation_values(config: GenerationConfig, folder: Path) -> None:
    """Write what was set of the search; no file where nothing was.

    Args:
        config (`GenerationConfig`): the model's.
        folder (`Path`): the adapter's.

    Raises:
        ConfigurationError: see `check_generation_values`.
    """
    chosen = check_generation_values(config)
    if chosen:
        write_json(folder / GENERATION, chosen)
    else:
        (folder / GENERATION).unlink(missing_ok=True)


def load_generation_values(name: str | os.PathLike[str], hub: dict[str, Any]) -> dict[str, Any]:
    """What an adapter's `generation_config.json` says of the search; other fields of it mean nothing.

    Args:
        name (`str | PathLike`): folder or Hub id.
        hub (`dict`): where and how files are found.

    Returns:
        `dict`: fields of `GenerationConfig`; empty where there is no such file.

    Raises:
        AdapterError: the file is damaged, or a value is of the wrong type or out of range.
    """
    path = find_file(name, GENERATION, **hub)
    if path is None:
        return {}
    values = read_config_file(path)
    found = {field: values[field] for field in _ALLOWED if values.get(field) is not None}
    for field in _out_of_range(found):
        raise AdapterError(
            f"{field} in {GENERATION} of {name} is {shortened(found[field])}",
            hint="correct it, or delete the file, which may be missing",
        )
    return found


def _out_of_range(values: Mapping[str, Any]) -> list[str]:
    return [name for name, value in values.items() if not _ALLOWED[name](value)]
