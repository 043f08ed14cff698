"""Settings of a language model in a fairseq checkpoint, wherever the version of fairseq kept them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .errors import ConversionError
from .fairseq_values import get_flag, get_rate, get_setting, get_size, model_node, shortened

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
    node = model_node(content, name)
    architecture = get_setting(node, "arch", get_setting(node, "_name", None))
    if not isinstance(architecture, str) or not architecture.startswith("transformer_lm"):
        raise ConversionError(
            f"{name} says architecture {architecture!r}"[:300] + " instead of transformer_lm...",
            hint="only language models over units are converted to GSLM",
        )
    for key, (wanted, meaning) in _FIXED.items():
        if get_flag(node, key, wanted, name) is not wanted:
            raise ConversionError(f"{name} has {key} {not wanted}: {meaning}", hint="GSLM has no such thing")
    sizes = {key: get_size(node, f"decoder_{key}", limit, name) for key, limit in _LIMITS.items()}
    for key in ("decoder_input_dim", "decoder_output_dim"):
        if (size := get_setting(node, key, None)) is not None and size != sizes["embed_dim"]:
            raise ConversionError(f"{name} has {key} {shortened(size)} and decoder_embed_dim {sizes['embed_dim']}")
    if sizes["embed_dim"] % sizes["attention_heads"]:
        raise ConversionError(
            f"{name} has decoder_embed_dim {sizes['embed_dim']}, which {sizes['attention_heads']} "
            "decoder_attention_heads do not divide"
        )
    if get_setting(node, "adaptive_softmax_cutoff", None) is not None:
        raise ConversionError(f"{name} has adaptive_softmax_cutoff: an adaptive output head", hint="GSLM has none")
    activation = get_setting(node, "activation_fn", "relu")
    if activation not in ("relu", "gelu"):
        raise ConversionError(f"{name} has activation_fn {shortened(activation)}", hint="relu and gelu are known")
    return LanguageModelSettings(
        architecture=architecture,
        hidden_size=sizes["embed_dim"],
        intermediate_size=sizes["ffn_embed_dim"],
        num_layers=sizes["layers"],
        num_heads=sizes["attention_heads"],
        activation=activation,
        is_tied=get_flag(node, "share_decoder_input_output_embed", False, name),
        scales_embedding=not get_flag(node, "no_scale_embedding", False, name),
        max_positions=_max_positions(node),
        dropout=get_rate(node, "dropout", 0.1, name),
        attention_dropout=get_rate(node, "attention_dropout", 0.0, name),
        activation_dropout=get_rate(node, "activation_dropout", 0.0, name),
    )


def _max_positions(node: Any) -> int:
    """The first of these that is set, as in fairseq; the value may be a reference to another part of `cfg`."""
    for key in ("max_target_positions", "tokens_per_sample"):
        value = get_setting(node, key, None)
        if type(value) is int and 1 <= value <= _MAX_POSITIONS:
            return value
    return _DEFAULT_POSITIONS
