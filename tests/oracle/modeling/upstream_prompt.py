"""A slow, independent rendering of the official decoder with prompts, one row at a time and without a cache.

Written from the description of SpeechPrompt v2's `transformer_prompt_decoder.py`: prompt columns are put before the
tokens, and the key and value inputs of these columns are overwritten in every layer. It takes raw weights only, none
of our modules.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def position_row(row: int, width: int) -> Tensor:
    half = width // 2
    angles = torch.tensor([row * math.exp(-index * math.log(10000) / (half - 1)) for index in range(half)])
    return torch.zeros(width) if row == 1 else torch.cat([angles.sin(), angles.cos()])


def upstream_logits(
    weights: dict[str, Tensor],
    tokens: list[int],
    *,
    num_heads: int,
    separator: Tensor,
    prefix: Tensor,
    deep_keys: list[Tensor] | None = None,
    deep_values: list[Tensor] | None = None,
) -> Tensor:
    """Logits of the real tokens, `(n, V)`; `prefix` `(P, D)` always stands before them, as in the original."""
    width, num_prompts = prefix.shape[1], len(prefix)
    table = weights["model.embed_tokens.weight"]
    columns = [
        (separator if token == 0 else table[token]) * math.sqrt(width) + position_row(index + 2, width)
        for index, token in enumerate(tokens)
    ]
    x = torch.cat([prefix, torch.stack(columns)])
    length = len(x)
    causal = torch.full((length, length), -math.inf).triu(1)

    def linear(name: str, values: Tensor) -> Tensor:
        return F.linear(values, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(name: str, values: Tensor) -> Tensor:
        return F.layer_norm(values, (width,), weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-5)

    def heads(values: Tensor) -> Tensor:
        return values.view(length, num_heads, width // num_heads).transpose(0, 1)

    num_layers = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("model.layers."))
    for index in range(num_layers):
        layer = f"model.layers.{index}"
        h = norm(f"{layer}.self_attn_layer_norm", x)
        key_input, value_input = h.clone(), h.clone()
        if deep_keys is not None:
            key_input[:num_prompts], value_input[:num_prompts] = deep_keys[index], deep_values[index]
        q = heads(linear(f"{layer}.self_attn.q_proj", h) * (width // num_heads) ** -0.5)
        k = heads(linear(f"{layer}.self_attn.k_proj", key_input))
        v = heads(linear(f"{layer}.self_attn.v_proj", value_input))
        attended = ((q @ k.transpose(1, 2) + causal).softmax(-1) @ v).transpose(0, 1).reshape(length, width)
        x = x + linear(f"{layer}.self_attn.out_proj", attended)
        inner = linear(f"{layer}.fc1", norm(f"{layer}.final_layer_norm", x)).relu()
        x = x + linear(f"{layer}.fc2", inner)
    return norm("model.layer_norm", x)[num_prompts:] @ table.T


def upstream_greedy(tokens: list[int], num_new: int, choose, **arguments) -> list[int]:
    """Generation as upstream runs it: the source forced step by step, a full forward pass for every token.

    `choose(logits, step)` picks the next token from the last position's logits; while the source is forced its choice
    is computed and thrown away, as fairseq's generator does with prefix tokens.
    """
    said: list[int] = []
    for length in range(1, len(tokens) + num_new):
        current = tokens[:length] if length <= len(tokens) else tokens + said
        logits = upstream_logits(tokens=current, **arguments)[-1]
        if length >= len(tokens):
            said.append(choose(logits, len(said)))
    return said
