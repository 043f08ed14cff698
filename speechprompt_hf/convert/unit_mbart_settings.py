"""Settings of a multilingual BART over units in a fairseq checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .errors import ConversionError
from .fairseq_values import get_flag, get_rate, get_setting, get_size, model_node, shortened

__all__ = ["UnitMBartSettings", "read_unit_mbart_settings"]

_LIMITS = {"embed_dim": 65_536, "ffn_embed_dim": 1_000_000, "layers": 1_000, "attention_heads": 4_096}
_ARCHITECTURES = ("mbart_large", "mbart_base", "bart_large", "bart_base")
_MAX_LANGUAGES = 1_000
_ABSENT = object()
# Settings whose other value makes another architecture: name → (value of mBART, what the other value means).
_FIXED = {
    "encoder_learned_pos": (True, "computed positions"),
    "decoder_learned_pos": (True, "computed positions"),
    "no_token_positional_embeddings": (False, "no positions"),
    "share_all_embeddings": (True, "embeddings of their own in encoder and decoder"),
    "share_decoder_input_output_embed": (True, "an output head of its own"),
    "layernorm_embedding": (True, "embeddings that are not normalized"),
    "no_cross_attention": (False, "a decoder without the encoder"),
    "cross_self_attention": (False, "self-attention over the encoder's states"),
    "no_decoder_final_norm": (False, "no normalization behind the last layer"),
    "tie_adaptive_weights": (False, "an adaptive output head"),
    "scale_fc": (False, "NormFormer"),
    "scale_attn": (False, "NormFormer"),
    "scale_heads": (False, "NormFormer"),
    "scale_resids": (False, "NormFormer"),
}
_NOISE = (
    "mask",
    "mask_random",
    "insert",
    "rotate",
    "permute_sentences",
    "mask_length",
    "poisson_lambda",
    "replace_length",
    "sample_break_mode",
    "tokens_per_sample",
)


@dataclass(frozen=True)
class UnitMBartSettings:
    """What a fairseq checkpoint says about its encoder-decoder.

    Args:
        architecture (`str`): its name in fairseq, for example `mbart_large`.
        place (`str`): where the settings stand: `"args"` or `"cfg"`.
        hidden_size (`int`): width D.
        intermediate_size (`int`): width of the feed-forward layers F.
        num_encoder_layers, num_decoder_layers (`int`): layers.
        num_heads (`int`): attention heads H, a divisor of D.
        activation (`str`): `"relu"` or `"gelu"`.
        scales_embedding (`bool`): embeddings are multiplied by sqrt(D).
        normalizes_before (`bool`, *optional*): layers start with their normalizations; `None` where nothing says so.
        max_positions (`int`, *optional*): longest sequence; `None` where nothing says so.
        dropout, attention_dropout, activation_dropout (`float`): rates in training.
        task (`str`, *optional*): the task that it was trained on.
        languages (`tuple[str, ...]`, *optional*): in the order of their tokens; `None` where nothing names them.
        has_language_tokens (`bool`): every language has a token.
        noise (`dict`): what the task did to its utterances, as far as it is said.
    """

    architecture: str
    place: str
    hidden_size: int
    intermediate_size: int
    num_encoder_layers: int
    num_decoder_layers: int
    num_heads: int
    activation: str
    scales_embedding: bool
    normalizes_before: bool | None
    max_positions: int | None
    dropout: float
    attention_dropout: float
    activation_dropout: float
    task: str | None
    languages: tuple[str, ...] | None
    has_language_tokens: bool
    noise: dict[str, Any] = field(default_factory=dict)


def read_unit_mbart_settings(content: dict[str, Any], name: str) -> UnitMBartSettings:
    """Settings of an encoder-decoder transformer.

    Args:
        content (`dict`): a checkpoint with `args` (an `argparse.Namespace`), or `cfg` (a namespace, a dictionary or
            omegaconf's, with parts `model` and `task`).
        name (`str`): of the file, for messages.

    Returns:
        `UnitMBartSettings`: checked for sense, not yet against tensors.

    Raises:
        ConversionError: they are absent, impossible, or those of another architecture.
    """
    node = model_node(content, name)
    architecture = get_setting(node, "arch", get_setting(node, "_name", None))
    if architecture not in _ARCHITECTURES:
        raise ConversionError(
            f"{name} says architecture {shortened(architecture)} instead of mbart_large",
            hint=f"known are {', '.join(_ARCHITECTURES)}; decoder-only models are converted with convert gslm",
        )
    for key, (wanted, meaning) in _FIXED.items():
        if get_flag(node, key, wanted, name) is not wanted:
            raise ConversionError(f"{name} has {key} {not wanted}: {meaning}", hint="a Unit mBART has no such thing")
    if get_setting(node, "adaptive_softmax_cutoff", None) is not None:
        raise ConversionError(f"{name} has adaptive_softmax_cutoff: an adaptive output head")
    encoder = {key: get_size(node, f"encoder_{key}", limit, name) for key, limit in _LIMITS.items()}
    decoder = {key: get_size(node, f"decoder_{key}", limit, name) for key, limit in _LIMITS.items()}
    for key in ("embed_dim", "ffn_embed_dim", "attention_heads"):
        if encoder[key] != decoder[key]:
            raise ConversionError(f"{name} has encoder_{key} {encoder[key]} and decoder_{key} {decoder[key]}")
    if encoder["embed_dim"] % encoder["attention_heads"]:
        raise ConversionError(
            f"{name} has encoder_embed_dim {encoder['embed_dim']}, which {encoder['attention_heads']} "
            "encoder_attention_heads do not divide"
        )
    activation = get_setting(node, "activation_fn", "gelu")
    if activation not in ("relu", "gelu"):
        raise ConversionError(f"{name} has activation_fn {shortened(activation)}", hint="relu and gelu are known")
    task = get_setting(get_setting(content, "cfg", None), "task", None)
    task = (
        node
        if get_setting(task, "_name", _ABSENT) is _ABSENT and get_setting(task, "langs", _ABSENT) is _ABSENT
        else task
    )
    task_name = get_setting(task, "_name", None) if task is not node else get_setting(node, "task", None)
    return UnitMBartSettings(
        architecture=architecture,
        place="args" if node is content.get("args") else "cfg",
        hidden_size=encoder["embed_dim"],
        intermediate_size=encoder["ffn_embed_dim"],
        num_encoder_layers=encoder["layers"],
        num_decoder_layers=decoder["layers"],
        num_heads=encoder["attention_heads"],
        activation=activation,
        scales_embedding=not get_flag(node, "no_scale_embedding", architecture.startswith("bart"), name),
        normalizes_before=_normalizes_before(node, name),
        max_positions=_same_positions(node, name),
        dropout=get_rate(node, "dropout", 0.1, name),
        attention_dropout=get_rate(node, "attention_dropout", 0.0, name),
        activation_dropout=get_rate(node, "activation_dropout", 0.0, name),
        task=task_name if isinstance(task_name, str) else None,
        languages=_languages(task, name),
        has_language_tokens=task_name == "translation_from_pretrained_bart"
        or get_flag(task, "add_lang_token", task_name is None, name),
        noise=_noise(task),
    )


def _normalizes_before(node: Any, name: str) -> bool | None:
    keys = ("encoder_normalize_before", "decoder_normalize_before")
    found = {key: get_flag(node, key, False, name) for key in keys if get_setting(node, key, _ABSENT) is not _ABSENT}
    if len(set(found.values())) > 1:
        raise ConversionError(f"{name} has {keys[0]} {found[keys[0]]} and {keys[1]} {found[keys[1]]}")
    return next(iter(found.values()), None)


def _same_positions(node: Any, name: str) -> int | None:
    found = {}
    for key in ("max_source_positions", "max_target_positions"):
        if type(value := get_setting(node, key, None)) is int:
            found[key] = value
    if len(set(found.values())) > 1:
        raise ConversionError(
            f"{name} has max_source_positions {found['max_source_positions']} and max_target_positions "
            f"{found['max_target_positions']}",
            hint="a Unit mBART has one length for both",
        )
    return next(iter(found.values()), None)


def _languages(task: Any, name: str) -> tuple[str, ...] | None:
    value = get_setting(task, "langs", None)
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip() or value.count(",") >= _MAX_LANGUAGES:
        raise ConversionError(f"{name} has langs {shortened(value)}", hint="a list of names with commas between them")
    return tuple(part.strip() for part in value.split(","))


def _noise(task: Any) -> dict[str, Any]:
    found = {key: get_setting(task, key, None) for key in _NOISE}
    return {key: value for key, value in found.items() if isinstance(value, int | float) or type(value) is str}
