"""Settings of a HuBERT encoder in a fairseq checkpoint."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from .errors import ConversionError
from .fairseq_values import get_flag, get_rate, get_setting, get_size, shortened

__all__ = ["ConvLayer", "HubertSettings", "read_hubert_settings"]

_LIMITS = {"embed_dim": 65_536, "ffn_embed_dim": 1_000_000, "layers": 1_000, "attention_heads": 4_096}
_CONV_LIMITS = (65_536, 100_000, 100_000)
_MAX_CONV_LAYERS = 32
_MAX_TEXT = 1_000
_SAMPLING_RATE = 16_000
_DEFAULT_CONVOLUTIONS = "[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2"
# `[(512,10,5),(512,3,2)]*4`: fairseq evaluates the text as Python; here it is only read.
_TRIPLE = r"\(\d{1,6},\d{1,6},\d{1,6},?\)"
_TERM = re.compile(rf"(?:(\d{{1,2}})\*)?\[({_TRIPLE}(?:,{_TRIPLE})*),?\](?:\*(\d{{1,2}}))?")
# Settings whose other value makes another architecture: name → (value of HuBERT, what the other value means).
_FIXED = {
    "layer_type": ("transformer", "other layers than transformers"),
    "pos_conv_depth": (1, "several positional convolutions"),
    "attn_type": ("", "attention of ESPnet"),
}


@dataclass(frozen=True)
class ConvLayer:
    """A convolution of the feature extractor.

    Args:
        size (`int`): output channels.
        kernel (`int`): samples or frames that it reads.
        stride (`int`): samples or frames from one output to the next.
    """

    size: int
    kernel: int
    stride: int


@dataclass(frozen=True)
class HubertSettings:
    """What a fairseq checkpoint says about its HuBERT.

    Args:
        hidden_size (`int`): width D.
        intermediate_size (`int`): width of the feed-forward layers F.
        num_layers (`int`): transformer layers L.
        num_heads (`int`): attention heads, a divisor of D.
        activation (`str`): of the feed-forward layers, `"relu"` or `"gelu"`; convolutions always have GELU.
        conv_layers (`tuple[ConvLayer, ...]`): the feature extractor.
        conv_bias (`bool`): its convolutions have biases.
        conv_norm (`str`): `"group"` (in the first convolution only) or `"layer"` (in each).
        is_pre_norm (`bool`): layers start with their normalizations; the encoder then ends with one.
        position_kernel, position_groups (`int`): of the positional convolution.
        has_position_batch_norm (`bool`): batch norm before the positional convolution instead of weight norm in it.
        normalizes_input (`bool`): recordings were scaled to zero mean and unit variance.
        dropout, attention_dropout, activation_dropout, input_dropout, layerdrop (`float`): rates in training.
    """

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    activation: str
    conv_layers: tuple[ConvLayer, ...]
    conv_bias: bool
    conv_norm: str
    is_pre_norm: bool
    position_kernel: int
    position_groups: int
    has_position_batch_norm: bool
    normalizes_input: bool
    dropout: float
    attention_dropout: float
    activation_dropout: float
    input_dropout: float
    layerdrop: float

    @property
    def hop_samples(self) -> int:
        """Samples from frame to frame."""
        return math.prod(layer.stride for layer in self.conv_layers)

    @property
    def normalization(self) -> str:
        """What `SpeechUnitFeatureExtractor` has to do with a recording."""
        return "zero_mean_unit_variance" if self.normalizes_input else "none"


def read_hubert_settings(content: dict[str, Any], name: str) -> HubertSettings:
    """Settings of a HuBERT that was pretrained with fairseq.

    Args:
        content (`dict`): a checkpoint with `cfg` (`model` and `task` in it) or `args` (an `argparse.Namespace`).
        name (`str`): of the file, for messages.

    Returns:
        `HubertSettings`: checked for sense, not yet against tensors.

    Raises:
        ConversionError: they are absent, impossible, or those of another architecture.
    """
    node, task = _nodes(content, name)
    architecture = get_setting(node, "_name", None) or get_setting(node, "arch", None)
    if architecture != "hubert":
        raise ConversionError(
            f"{name} says architecture {shortened(architecture)} instead of 'hubert'",
            hint="pretrained HuBERT encoders are converted, fine-tuned ones and wav2vec 2.0 are not",
        )
    for key, (wanted, meaning) in _FIXED.items():
        if (value := get_setting(node, key, wanted)) not in (wanted, None):
            raise ConversionError(f"{name} has {key} {shortened(value)}: {meaning}", hint="HuBERT has no such thing")
    sizes = {key: get_size(node, f"encoder_{key}", limit, name) for key, limit in _LIMITS.items()}
    groups = _with_default(node, "conv_pos_groups", 16, 65_536, name)
    for key, divisor in (("encoder_attention_heads", sizes["attention_heads"]), ("conv_pos_groups", groups)):
        if sizes["embed_dim"] % divisor:
            raise ConversionError(
                f"{name} has encoder_embed_dim {sizes['embed_dim']}, which {divisor} {key} do not divide"
            )
    rate = get_setting(task, "sample_rate", _SAMPLING_RATE)
    if rate != _SAMPLING_RATE:
        raise ConversionError(f"{name} has sample_rate {shortened(rate)}", hint=f"{_SAMPLING_RATE} is known")
    conv_layers = _conv_layers(get_setting(node, "conv_feature_layers", _DEFAULT_CONVOLUTIONS), name)
    if conv_layers[-1].size == sizes["embed_dim"]:
        raise ConversionError(
            f"{name} has convolutions and layers of one width, {sizes['embed_dim']}: no projection is between them",
            hint="transformers' HuBERT always has one",
        )
    return HubertSettings(
        hidden_size=sizes["embed_dim"],
        intermediate_size=sizes["ffn_embed_dim"],
        num_layers=sizes["layers"],
        num_heads=sizes["attention_heads"],
        activation=_choice(node, "activation_fn", "gelu", ("gelu", "relu"), name),
        conv_layers=conv_layers,
        conv_bias=get_flag(node, "conv_bias", False, name),
        conv_norm={"default": "group", "layer_norm": "layer"}[
            _choice(node, "extractor_mode", "default", ("default", "layer_norm"), name)
        ],
        is_pre_norm=get_flag(node, "layer_norm_first", False, name),
        position_kernel=_with_default(node, "conv_pos", 128, 100_000, name),
        position_groups=groups,
        has_position_batch_norm=get_flag(node, "conv_pos_batch_norm", False, name),
        normalizes_input=get_flag(task, "normalize", False, name),
        dropout=get_rate(node, "dropout", 0.1, name),
        attention_dropout=get_rate(node, "attention_dropout", 0.1, name),
        activation_dropout=get_rate(node, "activation_dropout", 0.0, name),
        input_dropout=get_rate(node, "dropout_input", 0.0, name),
        layerdrop=get_rate(node, "encoder_layerdrop", 0.0, name),
    )


def _nodes(content: dict[str, Any], name: str) -> tuple[Any, Any]:
    """The model's and the task's settings: parts of `cfg`, or both in `args`."""
    cfg, args = content.get("cfg"), content.get("args")
    model = get_setting(cfg, "model", None)
    if any(get_setting(model, key, None) is not None for key in ("_name", "arch", "encoder_embed_dim")):
        return model, get_setting(cfg, "task", None)
    if any(get_setting(args, key, None) is not None for key in ("arch", "encoder_embed_dim")):
        return args, args
    raise ConversionError(
        f"{name} says nothing about its model: neither args nor cfg.model has a name or encoder_embed_dim",
        hint="give a checkpoint as fairseq writes it",
    )


def _conv_layers(value: Any, name: str) -> tuple[ConvLayer, ...]:
    """`[(512,10,5)] + [(512,3,2)] * 4`, read and not evaluated."""
    text = re.sub(r"\s+", "", value) if isinstance(value, str) and len(value) <= _MAX_TEXT else ""
    layers: list[ConvLayer] = []
    for term in text.split("+"):
        match = _TERM.fullmatch(term)
        if match is None:
            raise ConversionError(
                f"{name} has conv_feature_layers {shortened(value)}",
                hint="lists of (size, kernel, stride), joined by + and repeated by *, are known",
            )
        triples = [tuple(map(int, re.findall(r"\d+", triple))) for triple in re.findall(_TRIPLE, match[2])]
        layers += [ConvLayer(*triple) for triple in triples] * (int(match[1] or 1) * int(match[3] or 1))
    for layer in layers:
        sizes = (layer.size, layer.kernel, layer.stride)
        if not all(1 <= size <= limit for size, limit in zip(sizes, _CONV_LIMITS, strict=True)):
            raise ConversionError(f"{name} has a convolution {sizes} in conv_feature_layers, which cannot be")
    if not 1 <= len(layers) <= _MAX_CONV_LAYERS:
        raise ConversionError(f"{name} has {len(layers)} convolutions in conv_feature_layers, of {_MAX_CONV_LAYERS}")
    return tuple(layers)


def _choice(node: Any, key: str, default: str, known: tuple[str, ...], name: str) -> str:
    value = get_setting(node, key, default)
    if not isinstance(value, str) or value not in known:
        raise ConversionError(f"{name} has {key} {shortened(value)}", hint=f"{' and '.join(known)} are known")
    return value


def _with_default(node: Any, key: str, default: int, limit: int, name: str) -> int:
    return default if get_setting(node, key, None) is None else get_size(node, key, limit, name)
