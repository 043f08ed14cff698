"""fairseq's names of a unit vocoder's weights, and ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..modeling.configuration_unit_hifigan import EDGE_KERNEL_SIZE, UnitHifiGanConfig
from .errors import ConversionError
from .torch_names import LazyTensor

__all__ = ["VocoderPart", "plan_vocoder"]

# Magnitude and direction of a weight under weight norm, in the older and the newer spelling of torch.
_NORMED = (("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1"))


@dataclass(frozen=True)
class VocoderPart:
    """Where a weight comes from.

    Args:
        key (`str`): fairseq's name of it, or of its direction.
        tensor (`LazyTensor`): the tensor of that name, of the weight's shape.
        magnitude (`LazyTensor`, *optional*): its norms over all axes but the first, if it is under weight norm.
    """

    key: str
    tensor: LazyTensor
    magnitude: LazyTensor | None = None


@dataclass(frozen=True)
class _Layer:
    """A layer in both namings."""

    target: str
    source: str
    weight: tuple[int, ...]
    bias: int | None = None
    is_normed: bool = False


def plan_vocoder(state: Mapping[str, LazyTensor], config: UnitHifiGanConfig, name: str) -> dict[str, VocoderPart]:
    """Say where every weight comes from, and refuse what does not fit.

    Args:
        state (`Mapping[str, LazyTensor]`): the checkpoint's `generator`.
        config (`UnitHifiGanConfig`): sizes that the tensors must have.
        name (`str`): of the file, for messages.

    Returns:
        `dict[str, VocoderPart]`: our name → where it comes from, complete for a `UnitHifiGan` of this configuration.

    Raises:
        ConversionError: a key is unknown, absent, there in two spellings, or of another shape.
    """
    parts: dict[str, VocoderPart] = {}
    used: set[str] = set()
    for layer in _layers(config):
        keys = _weight_keys(state, layer, name)
        parts[f"{layer.target}.weight"] = _weight(state, keys, layer, name)
        used.update(keys)
        if layer.bias is not None:
            key = f"{layer.source}.bias"
            parts[f"{layer.target}.bias"] = VocoderPart(key, _tensor(state, key, (layer.bias,), name))
            used.add(key)
    for key in state:
        if key not in used:
            raise ConversionError(
                f"{name} holds {key[:100]}, which UnitHifiGan has no place for",
                hint="it is of another architecture, or has more layers than its settings say",
            )
    return parts


def _weight_keys(state: Mapping[str, LazyTensor], layer: _Layer, name: str) -> tuple[str, ...]:
    """Names of a layer's weight: one, or magnitude and direction."""
    plain = (f"{layer.source}.weight",)
    if not layer.is_normed:
        return plain
    spellings = [plain, *(tuple(f"{layer.source}.{suffix}" for suffix in pair) for pair in _NORMED)]
    found = [keys for keys in spellings if any(key in state for key in keys)]
    if len(found) > 1:
        both = " and ".join(next(key for key in keys if key in state) for keys in found[:2])
        raise ConversionError(f"{name} holds both {both}, which are the same")
    return found[0] if found else plain


def _weight(state: Mapping[str, LazyTensor], keys: tuple[str, ...], layer: _Layer, name: str) -> VocoderPart:
    if len(keys) == 1:
        return VocoderPart(keys[0], _tensor(state, keys[0], layer.weight, name))
    # One norm for each index of the first axis: outputs of a convolution, inputs of a transposed one.
    magnitude = _tensor(state, keys[0], (layer.weight[0], 1, 1), name)
    return VocoderPart(keys[1], _tensor(state, keys[1], layer.weight, name), magnitude)


def _tensor(state: Mapping[str, LazyTensor], key: str, shape: tuple[int, ...], name: str) -> LazyTensor:
    if key not in state:
        raise ConversionError(
            f"{name} lacks {key}", hint="it is truncated, or its settings say more layers than it has"
        )
    if state[key].shape != shape:
        raise ConversionError(f"{key} in {name} has shape {state[key].shape}, the settings need {shape}")
    return state[key]


def _layers(config: UnitHifiGanConfig) -> Iterator[_Layer]:
    width = config.unit_embed_dim
    yield _Layer("unit_embedding", "dict", (config.vocab_size, width))
    if config.num_speakers:
        yield _Layer("speaker_embedding", "spkr", (config.num_speakers, width))
    if config.duration_predictor_hidden_size:
        yield from _duration_layers(
            width, config.duration_predictor_hidden_size, config.duration_predictor_kernel_size
        )
    channels = config.upsample_initial_channel
    yield _conv("conv_pre", "conv_pre", config.generator_channels, channels, EDGE_KERNEL_SIZE)
    num_blocks = len(config.resblock_kernel_sizes)
    for stage, size in enumerate(config.upsample_kernel_sizes):
        half = channels // 2
        yield _Layer(f"generator.upsampler.{stage}", f"ups.{stage}", (channels, half, size), half, is_normed=True)
        channels = half
        blocks = zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
        for block, (block_size, dilations) in enumerate(blocks, start=stage * num_blocks):
            for convs in ("convs1", "convs2"):
                for index in range(len(dilations)):
                    layer = f"resblocks.{block}.{convs}.{index}"
                    yield _conv(layer, layer, channels, channels, block_size)
    yield _conv("conv_post", "conv_post", channels, 1, EDGE_KERNEL_SIZE)


def _duration_layers(width: int, inner: int, size: int) -> Iterator[_Layer]:
    target, source = "duration_predictor", "dur_predictor"
    for index, channels in ((1, width), (2, inner)):
        yield _Layer(f"{target}.conv{index}", f"{source}.conv{index}.0", (inner, channels, size), inner)
        yield _Layer(f"{target}.ln{index}", f"{source}.ln{index}", (inner,), inner)
    yield _Layer(f"{target}.proj", f"{source}.proj", (1, inner), 1)


def _conv(target: str, source: str, channels_in: int, channels_out: int, size: int) -> _Layer:
    return _Layer(f"generator.{target}", source, (channels_out, channels_in, size), channels_out, is_normed=True)
