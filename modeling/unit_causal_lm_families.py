"""Which decoder-only architectures of transformers can be wrapped, and how each names its parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import Any

from torch import Tensor, nn

from ..core.errors import ConfigurationError
from .unit_language_model import PromptLayer, in_own_precision

__all__ = ["FAMILIES", "CausalLMFamily", "causal_lm_family"]


@dataclass(frozen=True)
class CausalLMFamily:
    """How an architecture names its parts.

    Attributes:
        model_type (`str`): as transformers calls it.
        fields (`frozenset[str]`): fields of its configuration that say what its weights compute.
        dropouts (`frozenset[str]`): further fields: dropouts and initialisation, which are not part of the function.
        prefix (`str`): of the base model's weights in a file of the language model.
        embedding (`str`): name of the input embedding in the base model.
        head (`str`): name of the output head in the language model.
        layers (`str`): path of the decoder layers in the base model.
        norm (`str`): in a layer: what normalises the states before attention.
        attention (`str`): in a layer: the self-attention.
        projections (`Callable`): attention and its number of heads → key and value projection.
        key_norm (`str`, *optional*): in the attention: what normalises each head's keys.
        positions (`str`, *optional*): path of the learned positions in the base model; rotary ones without it.
        position_offset (`int`): row of position 0 there.
        fixed (`Mapping`): values of fields that are required, because others cannot be prompted.
        zero (`frozenset[str]`): dropouts that the architecture applies in its layers and not in modules of their own:
            0 in a wrapped base, where layers that checkpoint gradients would not be without them.
    """

    model_type: str
    fields: frozenset[str]
    dropouts: frozenset[str]
    prefix: str
    embedding: str
    head: str
    layers: str
    norm: str
    attention: str
    projections: Callable[[nn.Module, int], tuple[nn.Linear, nn.Linear]]
    key_norm: str | None = None
    positions: str | None = None
    position_offset: int = 0
    fixed: Mapping[str, Any] = field(default_factory=dict)
    zero: frozenset[str] = frozenset()

    def decoder_layers(self, backbone: nn.Module) -> list[nn.Module]:
        """The decoder layers of a base model, in their order."""
        return list(attrgetter(self.layers)(backbone))

    def prompt_layers(
        self, backbone: nn.Module, num_heads: int, num_kv_heads: int, head_dim: int
    ) -> list[PromptLayer]:
        """What a deep prompt needs of each decoder layer.

        Args:
            backbone (`nn.Module`): the base model.
            num_heads (`int`): heads of queries.
            num_kv_heads (`int`): heads of keys and values.
            head_dim (`int`): width of a head.
        """
        found = []
        for layer in self.decoder_layers(backbone):
            attention = getattr(layer, self.attention)
            k_proj, v_proj = self.projections(attention, num_heads)
            # OPT-350M normalises after attention: its states enter the projections as they are.
            is_first = getattr(layer, "do_layer_norm_before", True)
            found.append(
                PromptLayer(
                    normalize=partial(in_own_precision, getattr(layer, self.norm) if is_first else None),
                    k_proj=k_proj,
                    v_proj=v_proj,
                    num_heads=num_kv_heads,
                    head_dim=head_dim,
                    normalize_keys=_InFloat32(getattr(attention, self.key_norm)) if self.key_norm else None,
                )
            )
        return found

    def first_position(self, backbone: nn.Module) -> Tensor | None:
        """The learned vector `(D,)` of position 0; `None` where positions are rotations, and that of 0 is none."""
        if self.positions is None:
            return None
        weight: Tensor = attrgetter(self.positions)(backbone).weight
        return weight[self.position_offset]


class _InFloat32:
    """A normalisation of the mean square, in float32 as the projections of prompts are."""

    def __init__(self, norm: nn.Module) -> None:
        self.norm = norm

    def __call__(self, states: Tensor) -> Tensor:
        normalised: Tensor = self.norm(states.float())
        return normalised.float()


def _separate(attention: nn.Module, num_heads: int) -> tuple[nn.Linear, nn.Linear]:
    k_proj, v_proj = attention.k_proj, attention.v_proj
    assert isinstance(k_proj, nn.Linear) and isinstance(v_proj, nn.Linear)
    return k_proj, v_proj


def _thirds_of_columns(attention: nn.Module, num_heads: int) -> tuple[nn.Linear, nn.Linear]:
    """GPT-2: `c_attn.weight` is `(D, 3·D)`, queries, keys and values side by side."""
    fused: Any = attention.c_attn
    _, keys, values = fused.weight.T.chunk(3)
    _, key_bias, value_bias = fused.bias.chunk(3)
    return _linear(keys, key_bias), _linear(values, value_bias)


def _thirds_of_heads(attention: nn.Module, num_heads: int) -> tuple[nn.Linear, nn.Linear]:
    """GPT-NeoX: `query_key_value.weight` is `(3·D, D)`, queries, keys and values of each head side by side."""
    fused: Any = attention.query_key_value
    weights = fused.weight.unflatten(0, (num_heads, 3, -1))
    biases = None if fused.bias is None else fused.bias.unflatten(0, (num_heads, 3, -1))
    keys, values = (
        _linear(weights[:, part].flatten(0, 1), None if biases is None else biases[:, part].flatten())
        for part in (1, 2)
    )
    return keys, values


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A frozen projection of weights that are part of others."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return linear


def _rotary(model_type: str, *more: str, **changes: Any) -> CausalLMFamily:
    """An architecture of Llama's kin."""
    common = (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "hidden_act",
        "max_position_embeddings",
        "rms_norm_eps",
        "rope_parameters",
    )
    parts: dict[str, Any] = {
        "prefix": "model.",
        "embedding": "embed_tokens",
        "head": "lm_head",
        "layers": "layers",
        "norm": "input_layernorm",
        "attention": "self_attn",
        "projections": _separate,
        "dropouts": frozenset({"attention_dropout", "initializer_range"}),
    }
    return CausalLMFamily(model_type, frozenset({*common, *more}), **{**parts, **changes})


_ALL = (
    _rotary("llama", "head_dim", "attention_bias", "mlp_bias"),
    _rotary("mistral", "head_dim", "sliding_window", fixed={"sliding_window": None}),
    _rotary("qwen2", "use_sliding_window", fixed={"use_sliding_window": False}),
    _rotary(
        "qwen3",
        "head_dim",
        "attention_bias",
        "use_sliding_window",
        fixed={"use_sliding_window": False},
        key_norm="k_norm",
    ),
    CausalLMFamily(
        "opt",
        fields=frozenset(
            {
                "hidden_size",
                "ffn_dim",
                "num_hidden_layers",
                "num_attention_heads",
                "max_position_embeddings",
                "activation_function",
                "do_layer_norm_before",
                "_remove_final_layer_norm",
                "enable_bias",
                "layer_norm_elementwise_affine",
            }
        ),
        dropouts=frozenset({"dropout", "attention_dropout", "layerdrop", "init_std"}),
        prefix="model.",
        embedding="decoder.embed_tokens",
        head="lm_head",
        layers="decoder.layers",
        norm="self_attn_layer_norm",
        attention="self_attn",
        projections=_separate,
        positions="decoder.embed_positions",
        position_offset=2,
        zero=frozenset({"dropout", "layerdrop"}),
    ),
    CausalLMFamily(
        "gpt2",
        fields=frozenset(
            {
                "n_embd",
                "n_inner",
                "n_layer",
                "n_head",
                "n_positions",
                "activation_function",
                "layer_norm_epsilon",
                "scale_attn_weights",
                "scale_attn_by_inverse_layer_idx",
            }
        ),
        dropouts=frozenset({"resid_pdrop", "embd_pdrop", "attn_pdrop", "initializer_range"}),
        prefix="transformer.",
        embedding="wte",
        head="lm_head",
        layers="h",
        norm="ln_1",
        attention="attn",
        projections=_thirds_of_columns,
        positions="wpe",
    ),
    CausalLMFamily(
        "gpt_neox",
        fields=frozenset(
            {
                "hidden_size",
                "intermediate_size",
                "num_hidden_layers",
                "num_attention_heads",
                "max_position_embeddings",
                "hidden_act",
                "layer_norm_eps",
                "use_parallel_residual",
                "attention_bias",
                "rope_parameters",
            }
        ),
        dropouts=frozenset({"attention_dropout", "hidden_dropout", "initializer_range"}),
        prefix="gpt_neox.",
        embedding="embed_in",
        head="embed_out",
        layers="layers",
        norm="input_layernorm",
        attention="attention",
        projections=_thirds_of_heads,
    ),
)

FAMILIES = {family.model_type: family for family in _ALL}
"""Architectures by `model_type`."""


def causal_lm_family(model_type: object) -> CausalLMFamily:
    """The architecture of a `model_type`.

    Raises:
        ConfigurationError: it cannot be wrapped; the hint lists those that can.
    """
    family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        raise ConfigurationError(
            f"a language model of type {str(model_type)[:60]!r} cannot be wrapped as a base",
            hint=f"those of {', '.join(sorted(FAMILIES))} can; no prompt of any kind reaches the layers of others",
        )
    return family
