"""Values of fairseq's settings, whatever their containers: namespaces, dictionaries, omegaconf's."""

from __future__ import annotations

from typing import Any

from .errors import ConversionError
from .pickle_machine import Record

__all__ = ["get_flag", "get_rate", "get_setting", "get_size", "model_node", "shortened"]

_ABSENT = object()


def model_node(content: dict[str, Any], name: str) -> Any:
    """Where the model's settings are: newer versions write `cfg` and leave `args` empty."""
    cfg = content.get("cfg")
    for node in (get_setting(cfg, "model", None), cfg, content.get("args")):
        if get_setting(node, "decoder_embed_dim", _ABSENT) is not _ABSENT or isinstance(
            get_setting(node, "arch", None), str
        ):
            return node
    if isinstance(get_setting(get_setting(cfg, "model", None), "_name", None), str):
        return get_setting(cfg, "model", None)
    raise ConversionError(
        f"{name} says nothing about its model: no decoder_embed_dim in args, cfg or cfg.model",
        hint="give a checkpoint as fairseq writes it",
    )


def get_setting(node: Any, key: str, default: Any) -> Any:
    """A value of a dictionary, of a namespace, or of a dictionary of omegaconf."""
    values = _unwrapped(node)
    if not isinstance(values, dict) or key not in values:
        return default
    return _unwrapped(values[key])


def _unwrapped(node: Any) -> Any:
    """What a stand-in holds: items, attributes, or the value of a node of omegaconf."""
    if not isinstance(node, Record) or not isinstance(node.state, dict):
        return node
    if node.kind.module.startswith("omegaconf."):
        return node.state.get("_content", node.state.get("_val"))
    return node.state


def get_flag(node: Any, key: str, default: bool, name: str) -> bool:
    """A setting that is true or false.

    Raises:
        ConversionError: it is neither; `name` says which file has it.
    """
    value = get_setting(node, key, default)
    if value is None or value in (0, 1, True, False):
        return bool(value)
    raise ConversionError(f"{name} has {key} {shortened(value)}, which is neither true nor false")


def get_size(node: Any, key: str, limit: int, name: str) -> int:
    """A setting that is a whole number from 1 to `limit`.

    Raises:
        ConversionError: it is not; `name` says which file has it.
    """
    value = get_setting(node, key, None)
    if type(value) is not int or not 1 <= value <= limit:
        raise ConversionError(f"{name} has {key} {shortened(value)}", hint=f"a whole number from 1 to {limit}")
    return value


def get_rate(node: Any, key: str, default: float, name: str) -> float:
    """A setting that is a share from 0 to 1.

    Raises:
        ConversionError: it is not; `name` says which file has it.
    """
    value = get_setting(node, key, default)
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConversionError(f"{name} has {key} {shortened(value)}", hint="a rate from 0 to 1")
    return float(value)


def shortened(value: Any) -> str:
    """A value for a message; containers from a file are only named, as they may be of any depth."""
    return repr(value)[:60] if isinstance(value, str | int | float | None) else type(value).__name__
