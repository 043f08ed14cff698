"""fairseq's names of a HuBERT's weights, and transformers'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .errors import ConversionError
from .hubert_settings import HubertSettings
from .torch_names import LazyTensor

__all__ = ["EncoderPart", "EncoderPlan", "plan_encoder"]

_HEADS = ("final_proj.", "label_embs_concat", "target_glu.")
_COUNTER = "encoder.pos_conv.0.num_batches_tracked"
# Weight norm as torch spells it since 2.0.
_ALIASES = {
    "encoder.pos_conv.0.parametrizations.weight.original0": "encoder.pos_conv.0.weight_g",
    "encoder.pos_conv.0.parametrizations.weight.original1": "encoder.pos_conv.0.weight_v",
}
_PROJECTIONS = ("k_proj", "v_proj", "q_proj", "out_proj")


@dataclass(frozen=True)
class EncoderPart:
    """Where a weight comes from.

    Args:
        key (`str`): fairseq's name.
        tensor (`LazyTensor`): the tensor of that name.
    """

    key: str
    tensor: LazyTensor


@dataclass
class EncoderPlan:
    """What becomes of every key of a checkpoint.

    Attributes:
        parts: transformers' name → where it comes from, in the order of the model.
        left_out: fairseq's name → why it is not needed.
    """

    parts: dict[str, EncoderPart] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Place:
    """transformers' name of a weight, its shape, and the layer it is in, counted from 1, or 0."""

    target: str
    shape: tuple[int, ...]
    layer: int = 0


def plan_encoder(state: Mapping[str, LazyTensor], settings: HubertSettings, num_layers: int, name: str) -> EncoderPlan:
    """Say what becomes of every key, and refuse what does not fit.

    Args:
        state (`Mapping[str, LazyTensor]`): the checkpoint's `model`.
        settings (`HubertSettings`): sizes that the tensors must have.
        num_layers (`int`): how many layers are kept; those above are left out.
        name (`str`): of the file, for messages.

    Returns:
        `EncoderPlan`: complete for a `HubertModel` with `num_layers` layers.

    Raises:
        ConversionError: a key is unknown, absent, there twice in two spellings, or of another shape.
    """
    plan = EncoderPlan()
    places = _places(settings)
    found: dict[str, EncoderPart] = {}
    for key, tensor in state.items():
        usual = _ALIASES.get(key, key)
        if key.startswith(_HEADS):
            plan.left_out[key] = "a head of pretraining"
        elif key == _COUNTER and settings.has_position_batch_norm:
            plan.left_out[key] = "it counts batches of training"
        elif usual not in places:
            raise ConversionError(
                f"{name} holds {key[:100]}, which its settings have no place for",
                hint="it is of another architecture or fine-tuned, or has more layers than its settings say",
            )
        elif usual in found:
            raise ConversionError(f"{name} holds both {found[usual].key} and {key}, which are the same")
        else:
            found[usual] = EncoderPart(key, tensor)
    for key, place in places.items():
        if key not in found:
            raise ConversionError(f"{name} lacks {key}", hint="it is truncated, or its settings say more than it has")
        part = found[key]
        if part.tensor.shape != place.shape:
            raise ConversionError(
                f"{part.key} in {name} has shape {part.tensor.shape}, the settings need {place.shape}"
            )
        if place.layer > num_layers:
            plan.left_out[part.key] = f"above layer {num_layers}"
        else:
            plan.parts[place.target] = part
    return plan


def _places(settings: HubertSettings) -> dict[str, _Place]:
    """Every weight of a HuBERT by fairseq's name."""
    places = {"mask_emb": _Place("masked_spec_embed", (settings.hidden_size,))}
    places |= _conv_places(settings)
    width, channels = settings.hidden_size, settings.conv_layers[-1].size
    places |= _pair("layer_norm", "feature_projection.layer_norm", (channels,))
    places |= _pair("post_extract_proj", "feature_projection.projection", (width, channels))
    places |= _position_places(settings)
    places |= _pair("encoder.layer_norm", "encoder.layer_norm", (width,))
    for index in range(settings.num_layers):
        places |= _layer_places(settings, index)
    return places


def _pair(key: str, target: str, shape: tuple[int, ...], layer: int = 0) -> dict[str, _Place]:
    """Weight and bias of a linear layer, a convolution or a norm."""
    return {
        f"{key}.weight": _Place(f"{target}.weight", shape, layer),
        f"{key}.bias": _Place(f"{target}.bias", shape[:1], layer),
    }


def _conv_places(settings: HubertSettings) -> dict[str, _Place]:
    places: dict[str, _Place] = {}
    channels = 1
    for index, conv in enumerate(settings.conv_layers):
        key = target = f"feature_extractor.conv_layers.{index}"
        pair = _pair(f"{key}.0", f"{target}.conv", (conv.size, channels, conv.kernel))
        if not settings.conv_bias:
            del pair[f"{key}.0.bias"]
        places |= pair
        if settings.conv_norm == "layer":
            # Between two transpositions, in a module of its own.
            places |= _pair(f"{key}.2.1", f"{target}.layer_norm", (conv.size,))
        elif index == 0:
            places |= _pair(f"{key}.2", f"{target}.layer_norm", (conv.size,))
        channels = conv.size
    return places


def _position_places(settings: HubertSettings) -> dict[str, _Place]:
    width, key, target = settings.hidden_size, "encoder.pos_conv", "encoder.pos_conv_embed"
    kernel = (width, width // settings.position_groups, settings.position_kernel)
    if not settings.has_position_batch_norm:
        weight = f"{target}.conv.parametrizations.weight"
        return {
            f"{key}.0.bias": _Place(f"{target}.conv.bias", (width,)),
            f"{key}.0.weight_g": _Place(f"{weight}.original0", (1, 1, settings.position_kernel)),
            f"{key}.0.weight_v": _Place(f"{weight}.original1", kernel),
        }
    places = _pair(f"{key}.1", f"{target}.conv", kernel) | _pair(f"{key}.0", f"{target}.batch_norm", (width,))
    for statistic in ("running_mean", "running_var"):
        places[f"{key}.0.{statistic}"] = _Place(f"{target}.batch_norm.{statistic}", (width,))
    return places


def _layer_places(settings: HubertSettings, index: int) -> dict[str, _Place]:
    width, inner = settings.hidden_size, settings.intermediate_size
    key = target = f"encoder.layers.{index}"
    places: dict[str, _Place] = {}
    for projection in _PROJECTIONS:
        places |= _pair(f"{key}.self_attn.{projection}", f"{target}.attention.{projection}", (width, width), index + 1)
    places |= _pair(f"{key}.self_attn_layer_norm", f"{target}.layer_norm", (width,), index + 1)
    places |= _pair(f"{key}.fc1", f"{target}.feed_forward.intermediate_dense", (inner, width), index + 1)
    places |= _pair(f"{key}.fc2", f"{target}.feed_forward.output_dense", (width, inner), index + 1)
    places |= _pair(f"{key}.final_layer_norm", f"{target}.final_layer_norm", (width,), index + 1)
    return places
