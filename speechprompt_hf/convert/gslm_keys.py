"""fairseq's names of a language model's weights, and ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from .errors import ConversionError
from .fairseq_settings import LanguageModelSettings
from .torch_names import LazyTensor

__all__ = ["GslmPlan", "Part", "plan_gslm"]

_LEGACY_NORMS = {"0": "self_attn_layer_norm", "2": "final_layer_norm"}
_EMBEDDING = "model.embed_tokens.weight"
_HEAD = "lm_head.weight"


@dataclass(frozen=True)
class Part:
    """Where a weight comes from.

    Args:
        key (`str`): fairseq's name.
        tensor (`LazyTensor`): the tensor of that name.
        start, stop (`int`): its rows.
    """

    key: str
    tensor: LazyTensor
    start: int
    stop: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of these rows."""
        return (self.stop - self.start, *self.tensor.shape[1:])


@dataclass
class GslmPlan:
    """What becomes of every key of a checkpoint.

    Attributes:
        parts: our name → where it comes from, in the order of the checkpoint.
        left_out: fairseq's name → why it is not needed.
        equal_to_embedding: names of heads that have to be equal to the embedding.
        version: the tensor `decoder.version`, or none.
        num_rows: rows of the embedding in the checkpoint.
    """

    parts: dict[str, Part] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    equal_to_embedding: list[str] = field(default_factory=list)
    version: LazyTensor | None = None
    num_rows: int = 0


def plan_gslm(
    state: Mapping[str, LazyTensor], settings: LanguageModelSettings, num_tokens: int, name: str
) -> GslmPlan:
    """Say what becomes of every key, and refuse what does not fit.

    Args:
        state (`Mapping[str, LazyTensor]`): the checkpoint's `model`.
        settings (`LanguageModelSettings`): sizes that the tensors must have.
        num_tokens (`int`): special tokens and units of the dictionary; rows behind them are left out.
        name (`str`): of the file, for messages.

    Returns:
        `GslmPlan`: complete for a `GSLMForCausalLM` of these settings and `num_tokens` tokens.

    Raises:
        ConversionError: a key is unknown, absent, there twice in two spellings, or of another shape.
    """
    plan = GslmPlan()
    for key, tensor in state.items():
        _place(plan, key, tensor, settings, name)
    embedding = plan.parts.get(_EMBEDDING)
    plan.num_rows = embedding.tensor.shape[0] if embedding and embedding.tensor.shape else 0
    expected = _expected_shapes(settings, plan.num_rows)
    _compare(plan, expected, name)
    for target in (_EMBEDDING, _HEAD):
        if (part := plan.parts.get(target)) is not None:
            plan.parts[target] = Part(part.key, part.tensor, 0, min(num_tokens, plan.num_rows))
    return plan


def _place(plan: GslmPlan, key: str, tensor: LazyTensor, settings: LanguageModelSettings, name: str) -> None:
    inner = key.removeprefix("decoder.")
    if inner == key:
        raise ConversionError(
            f"{name} holds {key[:100]!r}: no weight of a decoder", hint="it is of another architecture than GSLM"
        )
    if inner == "version":
        plan.version, plan.left_out[key] = tensor, "fairseq's version of the format"
    elif inner in ("embed_positions._float_tensor", "embed_positions.weights"):
        plan.left_out[key] = "positions are computed"
    elif inner in ("output_projection.weight", "embed_out"):
        if settings.is_tied:
            plan.equal_to_embedding.append(key)
            plan.left_out[key] = "the head is the embedding"
        else:
            _add(plan, _HEAD, Part(key, tensor, 0, _num_rows(tensor)), name)
    elif fused := re.fullmatch(r"(layers\.\d+\.self_attn\.)in_proj_(weight|bias)", inner):
        _add_fused(plan, key, tensor, fused[1], fused[2], name)
    else:
        target = re.sub(
            r"^(layers\.\d+)\.layer_norms\.([02])\.", lambda match: f"{match[1]}.{_LEGACY_NORMS[match[2]]}.", inner
        )
        _add(plan, f"model.{target}", Part(key, tensor, 0, _num_rows(tensor)), name)


def _add_fused(plan: GslmPlan, key: str, tensor: LazyTensor, prefix: str, kind: str, name: str) -> None:
    """Queries, keys and values one below the other, as fairseq before 0.9 kept them."""
    rows = _num_rows(tensor)
    if rows % 3:
        raise ConversionError(f"{key} in {name} has {rows} rows, which three projections cannot share")
    for index, projection in enumerate(("q_proj", "k_proj", "v_proj")):
        part = Part(key, tensor, index * rows // 3, (index + 1) * rows // 3)
        _add(plan, f"model.{prefix}{projection}.{kind}", part, name)


def _add(plan: GslmPlan, target: str, part: Part, name: str) -> None:
    if target in plan.parts:
        raise ConversionError(f"{name} holds both {plan.parts[target].key} and {part.key[:100]}, which are the same")
    plan.parts[target] = part


def _num_rows(tensor: LazyTensor) -> int:
    return tensor.shape[0] if tensor.shape else 0


def _expected_shapes(settings: LanguageModelSettings, num_rows: int) -> dict[str, tuple[int, ...]]:
    width, inner = settings.hidden_size, settings.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {_EMBEDDING: (num_rows, width)}
    for index in range(settings.num_layers):
        layer = f"model.layers.{index}"
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes[f"{layer}.self_attn.{projection}.weight"] = (width, width)
            shapes[f"{layer}.self_attn.{projection}.bias"] = (width,)
        for norm in ("self_attn_layer_norm", "final_layer_norm"):
            shapes[f"{layer}.{norm}.weight"] = shapes[f"{layer}.{norm}.bias"] = (width,)
        shapes[f"{layer}.fc1.weight"], shapes[f"{layer}.fc1.bias"] = (inner, width), (inner,)
        shapes[f"{layer}.fc2.weight"], shapes[f"{layer}.fc2.bias"] = (width, inner), (width,)
    shapes["model.layer_norm.weight"] = shapes["model.layer_norm.bias"] = (width,)
    if not settings.is_tied:
        shapes[_HEAD] = (num_rows, width)
    return shapes


def _compare(plan: GslmPlan, expected: dict[str, tuple[int, ...]], name: str) -> None:
    for target in expected:
        if target not in plan.parts:
            raise ConversionError(
                f"{name} lacks {_fairseq_name(target)}",
                hint="it is truncated, or its settings say more layers than it has",
            )
    for target, part in plan.parts.items():
        if target not in expected:
            raise ConversionError(
                f"{name} holds {part.key[:100]}, which GSLM has no place for",
                hint="it is of another architecture, or has more layers than its settings say",
            )
        if part.shape != expected[target]:
            raise ConversionError(
                f"{part.key} in {name} has shape {part.tensor.shape}, the settings need {expected[target]}"
                + (" for each of three projections" if "in_proj_" in part.key else "")
            )


def _fairseq_name(target: str) -> str:
    return "decoder.output_projection.weight" if target == _HEAD else target.replace("model.", "decoder.", 1)
