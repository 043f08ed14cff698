"""fairseq's names of an encoder-decoder's weights, and ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from .errors import ConversionError
from .torch_names import LazyTensor
from .unit_mbart_settings import UnitMBartSettings

__all__ = ["EMBEDDING", "MBartPart", "UnitMBartPlan", "plan_unit_mbart"]

EMBEDDING = "encoder.embed_tokens.weight"
"""fairseq's name of the embedding that everything shares; ours is the same behind `model.`."""

_HEADS = ("decoder.embed_tokens.weight", "decoder.output_projection.weight", "encoder.output_projection.weight")
_LEGACY_NORMS = {
    "encoder": {"0": "self_attn_layer_norm", "1": "final_layer_norm"},
    "decoder": {"0": "self_attn_layer_norm", "1": "encoder_attn_layer_norm", "2": "final_layer_norm"},
}
_POSITION_OFFSET = 2


@dataclass(frozen=True)
class MBartPart:
    """Where a weight comes from.

    Args:
        key (`str`): fairseq's name.
        tensor (`LazyTensor`): the tensor of that name.
        rows (`slice`, *optional*): its rows, where it is a part of a fused one.
    """

    key: str
    tensor: LazyTensor
    rows: slice | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of these rows."""
        shape = tuple(self.tensor.shape)
        return shape if self.rows is None else (self.rows.stop - self.rows.start, *shape[1:])


@dataclass
class UnitMBartPlan:
    """What becomes of every key of a checkpoint.

    Attributes:
        parts: our name → where it comes from, in the order of the checkpoint.
        left_out: fairseq's name → why it is not needed.
        equal_to_embedding: names of tensors that have to be equal to the embedding.
        versions: fairseq's name of a version → the tensor.
        normalizes_before: the stacks end with normalizations, so their layers start with them.
        num_rows: rows of the embedding.
        max_positions: longest sequence.
    """

    parts: dict[str, MBartPart] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    equal_to_embedding: list[str] = field(default_factory=list)
    versions: dict[str, LazyTensor] = field(default_factory=dict)
    normalizes_before: bool = False
    num_rows: int = 0
    max_positions: int = 0


def plan_unit_mbart(state: Mapping[str, LazyTensor], settings: UnitMBartSettings, name: str) -> UnitMBartPlan:
    """Say what becomes of every key, and refuse what does not fit.

    Args:
        state (`Mapping[str, LazyTensor]`): the checkpoint's `model`.
        settings (`UnitMBartSettings`): sizes that the tensors must have.
        name (`str`): of the file, for messages.

    Returns:
        `UnitMBartPlan`: complete for a `UnitMBartForConditionalGeneration` of these settings.

    Raises:
        ConversionError: a key is unknown, absent, there twice in two spellings, or of another shape.
    """
    plan = UnitMBartPlan()
    for key, tensor in state.items():
        _place(plan, key, tensor, name)
    plan.normalizes_before = _normalizes_before(plan, settings, name)
    plan.num_rows = _rows_of(plan, EMBEDDING)
    plan.max_positions = _max_positions(plan, settings, name)
    _compare(plan, _expected_shapes(plan, settings), name)
    return plan


def _place(plan: UnitMBartPlan, key: str, tensor: LazyTensor, name: str) -> None:
    stack, _, inner = key.partition(".")
    if key.startswith("classification_heads."):
        plan.left_out[key] = "the head of another task"
    elif stack not in _LEGACY_NORMS:
        raise ConversionError(
            f"{name} holds {key[:100]!r}: no weight of an encoder or decoder", hint="it is of another architecture"
        )
    elif inner == "version":
        plan.versions[key], plan.left_out[key] = tensor, "fairseq's version of the format"
    elif key in _HEADS:
        plan.equal_to_embedding.append(key)
        plan.left_out[key] = "encoder, decoder and head share one embedding"
    elif fused := re.fullmatch(r"(layers\.\d+\.(?:self|encoder)_attn\.)in_proj_(weight|bias)", inner):
        rows = tensor.shape[0] if tensor.shape else 0
        if rows % 3:
            raise ConversionError(f"{key} in {name} has {rows} rows, which three projections cannot share")
        for index, projection in enumerate(("q_proj", "k_proj", "v_proj")):
            part = MBartPart(key, tensor, slice(index * rows // 3, (index + 1) * rows // 3))
            _add(plan, f"{stack}.{fused[1]}{projection}.{fused[2]}", part, name)
    else:
        norms = _LEGACY_NORMS[stack]
        target = re.sub(
            r"^(layers\.\d+)\.layer_norms\.([012])\.",
            lambda match: f"{match[1]}.{norms.get(match[2], match[2])}.",
            inner,
        )
        _add(plan, f"{stack}.{target}", MBartPart(key, tensor), name)


def _add(plan: UnitMBartPlan, target: str, part: MBartPart, name: str) -> None:
    if target in plan.parts:
        raise ConversionError(f"{name} holds both {plan.parts[target].key} and {part.key[:100]}, which are the same")
    plan.parts[target] = part


def _rows_of(plan: UnitMBartPlan, target: str) -> int:
    part = plan.parts.get(target)
    return part.shape[0] if part is not None and part.tensor.shape else 0


def _normalizes_before(plan: UnitMBartPlan, settings: UnitMBartSettings, name: str) -> bool:
    found = {stack: f"{stack}.layer_norm.weight" in plan.parts for stack in _LEGACY_NORMS}
    if found["encoder"] is not found["decoder"]:
        has, lacks = ("encoder", "decoder") if found["encoder"] else ("decoder", "encoder")
        raise ConversionError(
            f"{name} holds {has}.layer_norm.weight but no {lacks}.layer_norm.weight",
            hint="both stacks end with a normalization, or neither",
        )
    if settings.normalizes_before not in (None, found["encoder"]):
        raise ConversionError(
            f"{name} has encoder_normalize_before {settings.normalizes_before}, but "
            f"{'holds' if found['encoder'] else 'lacks'} encoder.layer_norm.weight",
            hint="weights and settings come from different models",
        )
    return found["encoder"]


def _max_positions(plan: UnitMBartPlan, settings: UnitMBartSettings, name: str) -> int:
    rows = [_rows_of(plan, f"{stack}.embed_positions.weight") for stack in _LEGACY_NORMS]
    wanted = settings.max_positions
    if rows[0] != rows[1] or rows[0] <= _POSITION_OFFSET or wanted not in (None, rows[0] - _POSITION_OFFSET):
        need = "two equal tables" if wanted is None else f"tables of {wanted + _POSITION_OFFSET} rows"
        raise ConversionError(
            f"encoder.embed_positions.weight in {name} has {rows[0]} rows, decoder.embed_positions.weight {rows[1]}; "
            f"the settings need {need}",
            hint="only learned positions of one length for encoder and decoder are known",
        )
    return rows[0] - _POSITION_OFFSET


def _expected_shapes(plan: UnitMBartPlan, settings: UnitMBartSettings) -> dict[str, tuple[int, ...]]:
    width, inner = settings.hidden_size, settings.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {EMBEDDING: (plan.num_rows, width)}
    for stack, num_layers, attentions in (
        ("encoder", settings.num_encoder_layers, ("self_attn",)),
        ("decoder", settings.num_decoder_layers, ("self_attn", "encoder_attn")),
    ):
        shapes[f"{stack}.embed_positions.weight"] = (plan.max_positions + _POSITION_OFFSET, width)
        norms = [f"{stack}.layernorm_embedding", *([f"{stack}.layer_norm"] if plan.normalizes_before else [])]
        for index in range(num_layers):
            layer = f"{stack}.layers.{index}"
            for attention in attentions:
                for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
                    shapes[f"{layer}.{attention}.{projection}.weight"] = (width, width)
                    shapes[f"{layer}.{attention}.{projection}.bias"] = (width,)
                norms.append(f"{layer}.{attention}_layer_norm")
            norms.append(f"{layer}.final_layer_norm")
            shapes[f"{layer}.fc1.weight"], shapes[f"{layer}.fc1.bias"] = (inner, width), (inner,)
            shapes[f"{layer}.fc2.weight"], shapes[f"{layer}.fc2.bias"] = (width, inner), (width,)
        for norm in norms:
            shapes[f"{norm}.weight"] = shapes[f"{norm}.bias"] = (width,)
    return shapes


def _compare(plan: UnitMBartPlan, expected: dict[str, tuple[int, ...]], name: str) -> None:
    for target in expected:
        if target not in plan.parts:
            raise ConversionError(
                f"{name} lacks {target}", hint="it is truncated, or its settings say more layers than it has"
            )
    for target, part in plan.parts.items():
        if target not in expected:
            raise ConversionError(
                f"{name} holds {part.key[:100]}, which a Unit mBART has no place for",
                hint="it is of another architecture, or has more layers than its settings say",
            )
        if part.shape != expected[target]:
            raise ConversionError(
                f"{part.key} in {name} has shape {tuple(part.tensor.shape)}, the settings need {expected[target]}"
                + (" for each of three projections" if part.rows is not None else "")
            )
