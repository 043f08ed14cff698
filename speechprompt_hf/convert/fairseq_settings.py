"""Settings of a language model in a fairseq checkpoint, wherever the version of fairseq kept them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .errors import ConversionError
from .pickle_machine import Record

__all__ = ["LanguageModelSettings", "read_language_model_settings"]

_LIMITS = {"embed_dim": 65_536, "ffn_embed_dim": 1_000_000, "layers": 1_000, "attention_heads": 4_096}
_MAX_POSITIONS = 1_000_000
_DEFAULT_POSITIONS = 1_024
_ABSENT = object()
# Settings whose other value makes another architecture: name → (value of GSLM, what the other value means).
_FIXED = {
    "decoder_normalize_before": (True, "normalization behind the layers"),
    "no_decoder_final_norm": (False, "no normalization behind the last layer"),
    "decoder_learned_pos": (False, "learnt positions"),
    "no_token_positional_embeddings": (False, "no positions"),
    "character_embeddings": (False, "embeddings of characters"),
    "adaptive_input": (False, "adaptive embeddings"),
    "layernorm_embedding": (False, "normalized embeddings"),
    "scale_fc": (False, "NormFormer"),
    "scale_attn": (False, "NormFormer"),
    "scale_heads": (False, "NormFormer"),
    "scale_resids": (False, "NormFormer"),
}


@dataclass(frozen=True)
class LanguageModelSettings:
    """What a fairseq checkpoint says about its language model.

    Args:
        architecture (`str`): its name in fairseq, for example `transformer_lm_big`.
        hidden_size (`int`): width D.
        intermediate_size (`int`): width of the feed-forward layers F.
        num_layers (`int`): layers L.
        num_heads (`int`): attention heads H, a divisor of D.
        activation (`str`): `"relu"` or `"gelu"`.
        is_tied (`bool`): the output head is the embedding.
        scales_embedding (`bool`): embeddings are multiplied by sqrt(D).
        max_positions (`int`): longest sequence in training.
        dropout, attention_dropout, activation_dropout (`float`): rates in training.
    """

    architecture: str
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    activation: str
    is_tied: bool
    scales_embedding: bool
    max_positions: int
    dropout: float
    attention_dropout: float
    activation_dropout: float


def read_language_model_settings(content: dict[str, Any], name: str) -> LanguageModelSettings:
    """Settings of a decoder-only transformer.

    Args:
        content (`dict`): a checkpoint with `args` (an `argparse.Namespace`), or `cfg` (a namespace, a dictionary or
            omegaconf's, with the model's part in `model`).
        name (`str`): of the file, for messages.

    Returns:
        `LanguageModelSettings`: checked for sense, not yet against tensors.

    Raises:
        ConversionError: they are absent, impossible, or those of another architecture.
    """
    node = _model_node(content, name)
    architecture = _get(node, "arch", _get(node, "_name", None))
    if not isinstance(architecture, str) or not architecture.startswith("transformer_lm"):
        raise ConversionError(
            f"{name} says architecture {architecture!r}"[:300] + " instead of transformer_lm...",
            hint="only language models over units are converted to GSLM",
        )
    for key, (wanted, meaning) in _FIXED.items():
        if _flag(node, key, wanted, name) is not wanted:
            raise ConversionError(f"{name} has {key} {not wanted}: {meaning}", hint="GSLM has no such thing")
    sizes = {key: _size(node, f"decoder_{key}", limit, name) for key, limit in _LIMITS.items()}
    for key in ("decoder_input_dim", "decoder_output_dim"):
        if (size := _get(node, key, None)) is not None and size != sizes["embed_dim"]:
            raise ConversionError(f"{name} has {key} {_short(size)} and decoder_embed_dim {sizes['embed_dim']}")
    if sizes["embed_dim"] % sizes["attention_heads"]:
        raise ConversionError(
            f"{name} has decoder_embed_dim {sizes['embed_dim']}, which {sizes['attention_heads']} "
            "decoder_attention_heads do not divide"
        )
    if _get(node, "adaptive_softmax_cutoff", None) is not None:
        raise ConversionError(f"{name} has adaptive_softmax_cutoff: an adaptive output head", hint="GSLM has none")
    activation = _get(node, "activation_fn", "relu")
    if activation not in ("relu", "gelu"):
        raise ConversionError(f"{name} has activation_fn {_short(activation)}", hint="relu and gelu are known")
    return LanguageModelSettings(
        architecture=architecture,
        hidden_size=sizes["embed_dim"],
        intermediate_size=sizes["ffn_embed_dim"],
        num_layers=sizes["layers"],
        num_heads=sizes["attention_heads"],
        activation=activation,
        is_tied=_flag(node, "share_decoder_input_output_embed", False, name),
        scales_embedding=not _flag(node, "no_scale_embedding", False, name),
        max_positions=_max_positions(node),
        dropout=_rate(node, "dropout", 0.1, name),
        attention_dropout=_rate(node, "attention_dropout", 0.0, name),
        activation_dropout=_rate(node, "activation_dropout", 0.0, name),
    )


def _model_node(content: dict[str, Any], name: str) -> Any:
    """Where the model's settings are: newer versions write `cfg` and leave `args` empty."""
    cfg = content.get("cfg")
    for node in (_get(cfg, "model", None), cfg, content.get("args")):
        if _get(node, "decoder_embed_dim", _ABSENT) is not _ABSENT or isinstance(_get(node, "arch", None), str):
            return node
    if isinstance(_get(_get(cfg, "model", None), "_name", None), str):
        return _get(cfg, "model", None)
    raise ConversionError(
        f"{name} says nothing about its model: no decoder_embed_dim in args, cfg or cfg.model",
        hint="give a checkpoint as fairseq writes it",
    )


def _get(node: Any, key: str, default: Any) -> Any:
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


def _flag(node: Any, key: str, default: bool, name: str) -> bool:
    value = _get(node, key, default)
    if value is None or value in (0, 1, True, False):
        return bool(value)
    raise ConversionError(f"{name} has {key} {_short(value)}, which is neither true nor false")


def _size(node: Any, key: str, limit: int, name: str) -> int:
    value = _get(node, key, None)
    if type(value) is not int or not 1 <= value <= limit:
        raise ConversionError(f"{name} has {key} {_short(value)}", hint=f"a whole number from 1 to {limit}")
    return value


def _rate(node: Any, key: str, default: float, name: str) -> float:
    value = _get(node, key, default)
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConversionError(f"{name} has {key} {_short(value)}", hint="a rate from 0 to 1")
    return float(value)


def _max_positions(node: Any) -> int:
    """The first of these that is set, as in fairseq; the value may be a reference to another part of `cfg`."""
    for key in ("max_target_positions", "tokens_per_sample"):
        value = _get(node, key, None)
        if type(value) is int and 1 <= value <= _MAX_POSITIONS:
            return value
    return _DEFAULT_POSITIONS


def _short(value: Any) -> str:
    """A value for a message; containers from a file are only named, as they may be of any depth."""
    return repr(value)[:60] if isinstance(value, str | int | float | None) else type(value).__name__
