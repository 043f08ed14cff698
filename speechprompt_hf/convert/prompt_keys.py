"""Names of the trained tensors in a prompt checkpoint of SpeechPrompt, and what becomes of each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..core.vocabulary import SPECIAL_TOKENS
from .errors import ConversionError
from .fairseq_values import get_setting
from .torch_names import LazyTensor

__all__ = ["MAX_TENSORS", "BaseSizes", "PromptPlan", "plan_prompt"]

MAX_TENSORS = 100
"""A prompt checkpoint has fewer tensors; upstream refuses larger files, too."""

_INPUT = "decoder.prefix_embed_prompts.weight"
_INFIX = "decoder.infix_embed_prompts.weight"
_SEPARATOR = "decoder.sep_embed.weight"
_VERBALIZER = "decoder.prompt_linear_verbalizer.weight"
_DEEP = re.compile(r"decoder\.deep_(key|value)_embed_prompts\.(0|[1-9]\d{0,3})\.weight")
_NAMES = (
    f"{_INPUT}, decoder.deep_key_embed_prompts.N.weight and decoder.deep_value_embed_prompts.N.weight for every layer "
    f"N, {_SEPARATOR}, {_VERBALIZER}, {_INFIX}"
)
_NUM_SPECIAL = len(SPECIAL_TOKENS)
_MAX_COLUMNS = 10_000
_OTHER_BASE = "the prompt was trained on another language model: give that one as the base"


@dataclass(frozen=True)
class BaseSizes:
    """Sizes of the language model that the prompt belongs to.

    Args:
        hidden_size (`int`): width D.
        num_layers (`int`): layers L.
        vocab_size (`int`): tokens V.
    """

    hidden_size: int
    num_layers: int
    vocab_size: int


@dataclass
class PromptPlan:
    """What becomes of every tensor of a prompt checkpoint.

    Attributes:
        kind: `"deep"`, or `"input"` where there are no keys and values.
        num_columns: prompt columns P.
        vectors: names of the prompt's tensors of shape `(P, D)`: the input vectors, or the keys of all layers, then
            the values of all layers.
        separator: name of the separator `(1, D)`; none where upstream did not use it.
        verbalizer: name of the linear verbalizer `(C + 4, V)`, or none.
        num_classes: labels C of the linear verbalizer; 0 without one.
        left_out: name → why it is not needed.
    """

    kind: Literal["deep", "input"]
    num_columns: int
    vectors: list[str]
    separator: str | None = None
    verbalizer: str | None = None
    num_classes: int = 0
    left_out: dict[str, str] = field(default_factory=dict)


def plan_prompt(
    state: Mapping[str, LazyTensor], content: Mapping[Any, Any], sizes: BaseSizes, name: str
) -> PromptPlan:
    """Say what becomes of every tensor, and refuse what does not fit.

    Args:
        state (`Mapping[str, LazyTensor]`): the checkpoint's `model`.
        content (`Mapping`): the whole checkpoint; `use_sep_token` is looked up in its settings.
        sizes (`BaseSizes`): of the language model.
        name (`str`): of the file, for messages.

    Returns:
        `PromptPlan`: complete for the prompt's kind.

    Raises:
        ConversionError: a tensor is unknown, absent, or of another shape than the language model needs; or the prompt
            stands before the separator (v1's infix), which adapters cannot express.
    """
    deep = _deep_names(state, name)
    for key in state:
        if key not in (_INPUT, _INFIX, _SEPARATOR, _VERBALIZER) and not _DEEP.fullmatch(key):
            raise ConversionError(
                f"{name} holds {key[:100]!r}, which is no trained tensor of a prompt",
                hint="give the checkpoint of the prompt, such as checkpoint_best.pt, not base_prompt_model.pt; its "
                f"tensors are {_NAMES}",
            )
    plan = _plan_deep(state, deep, sizes, name) if deep else _plan_input(state, sizes, name)
    _plan_infix(plan, state, name)
    _plan_separator(plan, state, content, sizes, name)
    if _VERBALIZER in state:
        shape = state[_VERBALIZER].shape
        if len(shape) != 2 or shape[1] != sizes.vocab_size:
            raise ConversionError(
                f"{_VERBALIZER} in {name} has shape {shape}, the base's vocabulary has {sizes.vocab_size} tokens",
                hint=_OTHER_BASE,
            )
        if shape[0] <= _NUM_SPECIAL:
            raise ConversionError(
                f"{_VERBALIZER} in {name} has {shape[0]} rows: {_NUM_SPECIAL} special ones and no label"
            )
        plan.verbalizer, plan.num_classes = _VERBALIZER, shape[0] - _NUM_SPECIAL
    return plan


def _deep_names(state: Mapping[str, LazyTensor], name: str) -> dict[str, set[int]]:
    """Layers that have keys, and layers that have values; empty where there are none."""
    found: dict[str, set[int]] = {}
    for key in state:
        if match := _DEEP.fullmatch(key):
            found.setdefault(match[1], set()).add(int(match[2]))
    return found


def _plan_deep(state: Mapping[str, LazyTensor], deep: dict[str, set[int]], sizes: BaseSizes, name: str) -> PromptPlan:
    highest = max(max(layers) for layers in deep.values())
    if highest >= sizes.num_layers:
        raise ConversionError(
            f"{name} has prompts for {highest + 1} layers, the base has {sizes.num_layers} layers", hint=_OTHER_BASE
        )
    names = [
        f"decoder.deep_{kind}_embed_prompts.{layer}.weight"
        for kind in ("key", "value")
        for layer in range(sizes.num_layers)
    ]
    for key in names:
        if key not in state:
            raise ConversionError(
                f"{name} lacks {key}: the base has {sizes.num_layers} layers",
                hint="the file is not whole, or the prompt was trained on another language model",
            )
    num_columns = _check_vectors(state, names, sizes, name)
    plan = PromptPlan("deep", num_columns, names)
    if _INPUT in state:
        plan.left_out[_INPUT] = (
            "input vectors under deep prompts reach no output: their keys and values are overwritten in every layer"
        )
    return plan


def _plan_input(state: Mapping[str, LazyTensor], sizes: BaseSizes, name: str) -> PromptPlan:
    if _INPUT not in state:
        raise ConversionError(
            f"{name} has neither {_INPUT} nor keys and values of layers",
            hint=f"it is no checkpoint of a prompt, whose tensors are {_NAMES}",
        )
    return PromptPlan("input", _check_vectors(state, [_INPUT], sizes, name), [_INPUT])


def _check_vectors(state: Mapping[str, LazyTensor], names: list[str], sizes: BaseSizes, name: str) -> int:
    """The columns P that all these tensors have."""
    num_columns = state[names[0]].shape[0] if state[names[0]].shape else 0
    for key in names:
        shape = state[key].shape
        if len(shape) != 2 or shape[1] != sizes.hidden_size:
            raise ConversionError(
                f"{key} in {name} has shape {shape}, the base has width {sizes.hidden_size}", hint=_OTHER_BASE
            )
        if shape[0] != num_columns:
            raise ConversionError(f"{key} in {name} has {shape[0]} columns, {names[0]} has {num_columns}")
    if not 1 <= num_columns <= _MAX_COLUMNS:
        raise ConversionError(f"{names[0]} in {name} has {num_columns} columns", hint=f"1 to {_MAX_COLUMNS}")
    return num_columns


def _plan_infix(plan: PromptPlan, state: Mapping[str, LazyTensor], name: str) -> None:
    """v1 keeps this tensor, usually empty, in every file."""
    if _INFIX not in state:
        return
    if state[_INFIX].shape[:1] != (0,):
        raise ConversionError(
            f"{_INFIX} in {name} has shape {state[_INFIX].shape}: a prompt before the separator",
            hint="adapters have prompts before the utterance only",
        )
    plan.left_out[_INFIX] = "it has no columns"


def _plan_separator(
    plan: PromptPlan, state: Mapping[str, LazyTensor], content: Mapping[Any, Any], sizes: BaseSizes, name: str
) -> None:
    if _uses_separator(content) is False:
        if _SEPARATOR in state:
            plan.left_out[_SEPARATOR] = "the settings say use_sep_token False: the row of <s> separates"
        return
    if _SEPARATOR not in state:
        raise ConversionError(f"{name} lacks {_SEPARATOR}", hint="the file is not whole")
    if state[_SEPARATOR].shape != (1, sizes.hidden_size):
        raise ConversionError(
            f"{_SEPARATOR} in {name} has shape {state[_SEPARATOR].shape} instead of {(1, sizes.hidden_size)}",
            hint=_OTHER_BASE,
        )
    plan.separator = _SEPARATOR


def _uses_separator(content: Mapping[Any, Any]) -> bool | None:
    """`use_sep_token` of the settings, wherever the version of fairseq kept them; `None` where nothing is said."""
    cfg = content.get("cfg")
    for node in (get_setting(cfg, "model", None), cfg, content.get("args")):
        value = get_setting(node, "use_sep_token", None)
        if isinstance(value, bool):
            return value
    return None
