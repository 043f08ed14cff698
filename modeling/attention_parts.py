"""Attention over keys that lie in parts, of which many rows may share one: prompts, utterances, what was said."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["KeysAndValues", "attend_in_parts", "parts_of_layer"]

_MANY_QUERIES = 16

KeysAndValues = tuple[Tensor, Tensor]
"""Keys and values of one layer, each of shape `(U, G, M, D/H)`: of M columns, for U groups of neighbouring rows."""


def attend_in_parts(
    queries: Tensor,
    parts: Sequence[KeysAndValues],
    attention_mask: Tensor | None,
    *,
    scaling: float,
    dropout: float = 0.0,
) -> Tensor:
    """Attention over the columns of all parts, without laying them side by side.

    A part is read once for all rows that share it, however many these are: a prompt for the whole batch, an utterance
    for all its beams. Scores are float32 whatever the model's precision, as in transformers' fused attention. Where
    there are many queries a row, their scores would be larger than the columns: then they are laid side by side.

    Args:
        queries (`Tensor` of shape `(B, H, T, D/H)`): queries.
        parts (`Sequence` of pairs of `Tensor`s of shape `(U, G, M, D/H)`): keys and values; row b sees those of group
            `b // (B / U)`. U divides B, and G divides H.
        attention_mask (`Tensor` of shape `(B or 1, 1, T, M_1 + …)`, *optional*): bool (`True`: seen), or floating
            (added to the scores).
        scaling (`float`): factor of the scores.
        dropout (`float`, defaults to 0): of the weights.

    Returns:
        `Tensor` of shape `(B, T, H, D/H)`, as transformers' attention functions return.
    """
    if queries.shape[2] > _MANY_QUERIES:
        return _attend_side_by_side(queries, parts, attention_mask, scaling, dropout)
    scores = torch.cat([_scores(queries * scaling, keys) for keys, _ in parts], dim=-1)
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.softmax(-1).to(queries.dtype)
    weights = nn.functional.dropout(weights, p=dropout)
    lengths = [keys.shape[2] for keys, _ in parts]
    mixed = [_mix(part, values) for part, (_, values) in zip(weights.split(lengths, dim=-1), parts, strict=True)]
    return torch.stack(mixed).sum(0).transpose(1, 2)


def parts_of_layer(
    prompt_keys: Tensor | None, prompt_values: Tensor | None, read: KeysAndValues, own: KeysAndValues
) -> list[KeysAndValues]:
    """What a layer attends to, in the order of its mask.

    Args:
        prompt_keys (`Tensor` of shape `(P, G, D/H)` or `(B, P, G, D/H)`, *optional*): keys of the prompt.
        prompt_values (`Tensor` of the same shape, *optional*): values of the prompt.
        read (`KeysAndValues`): of the utterances.
        own (`KeysAndValues`): of what was said since, U = B.
    """
    if prompt_keys is None or prompt_values is None:
        return [read, own]
    return [(_as_part(prompt_keys, own[0]), _as_part(prompt_values, own[1])), read, own]


def _as_part(prompt: Tensor, states: Tensor) -> Tensor:
    prompt = prompt.unsqueeze(0) if prompt.dim() == 3 else prompt
    return prompt.to(dtype=states.dtype, device=states.device).transpose(1, 2)


def _gather_groups(rows: Tensor, num_groups: int, num_heads: int) -> Tensor:
    """Rows `(B, H, T, C)` as queries of their groups: `(U, G, B/U * H/G * T, C)`."""
    grouped = rows.unflatten(0, (num_groups, -1)).unflatten(2, (num_heads, -1))
    return grouped.transpose(1, 2).flatten(2, 4)


def _spread_groups(grouped: Tensor, rows: Tensor) -> Tensor:
    """The way back, to the rows B, heads H and queries T of `rows`."""
    batch_size, num_heads, num_queries = rows.shape[:3]
    sizes = (batch_size // grouped.shape[0], num_heads // grouped.shape[1], num_queries)
    return grouped.unflatten(2, sizes).transpose(1, 2).flatten(2, 3).flatten(0, 1)


def _attend_side_by_side(
    queries: Tensor, parts: Sequence[KeysAndValues], attention_mask: Tensor | None, scaling: float, dropout: float
) -> Tensor:
    batch_size, num_heads = queries.shape[:2]
    keys, values = (
        torch.cat(
            [
                part[index]
                .repeat_interleave(batch_size // len(part[index]), dim=0)
                .repeat_interleave(num_heads // part[index].shape[1], dim=1)
                for part in parts
            ],
            dim=2,
        )
        for index in (0, 1)
    )
    context = nn.functional.scaled_dot_product_attention(
        queries, keys, values, attn_mask=attention_mask, dropout_p=dropout, scale=scaling
    )
    return context.transpose(1, 2)


def _scores(queries: Tensor, keys: Tensor) -> Tensor:
    """`(B, H, T, M)`, float32 or more precise."""
    precision = torch.promote_types(queries.dtype, torch.float32)
    queries, keys = queries.to(precision), keys.to(precision)
    grouped = _gather_groups(queries, *keys.shape[:2])
    return _spread_groups(grouped @ keys.transpose(2, 3), queries)


def _mix(weights: Tensor, values: Tensor) -> Tensor:
    """`(B, H, T, D/H)`."""
    grouped = _gather_groups(weights, *values.shape[:2])
    return _spread_groups(grouped @ values, weights)
