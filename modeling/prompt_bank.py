"""Prompts of several adapters in one batch: one prompt a row, shorter ones masked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .prompt_states import PromptStates
from .unit_language_model import UnitLanguageModel

__all__ = ["gather_prompts"]


def gather_prompts(
    prompts: Sequence[PromptStates | None], prompt_of_row: Tensor, lm: UnitLanguageModel
) -> PromptStates | None:
    """One prompt a row, out of U prompts of any kinds and lengths.

    Only the given prompts are copied, layer by layer, and nothing is kept: give those that the batch needs. The
    copies last as long as the forward pass and are as large as B prompts.

    Args:
        prompts (`Sequence[PromptStates | None]` of length U): prompts without a batch dimension; `None` for rows that
            have none.
        prompt_of_row (`LongTensor` of shape `(B,)`): which of them each row has.
        lm (`UnitLanguageModel`): the language model, whose start token rows without a separator of their own keep.

    Returns:
        `PromptStates`: with a batch dimension, and masks where lengths differ; the prompt itself where all rows share
        it; `None` where no row has one.
    """
    if all(prompt is None for prompt in prompts):
        return None
    if len(prompts) == 1:
        return prompts[0]
    start = lm.get_input_embeddings().start_row.detach().float()
    separators = [start if prompt is None or prompt.separator is None else prompt.separator for prompt in prompts]
    inputs = [None if prompt is None else prompt.inputs for prompt in prompts]
    layers = [(None, None) if prompt is None else (prompt.keys, prompt.values) for prompt in prompts]
    num_layers = max(len(keys or ()) for keys, _ in layers)
    keys = tuple(
        _gather([None if keys is None else keys[index] for keys, _ in layers], prompt_of_row)
        for index in range(num_layers)
    )
    values = tuple(
        _gather([None if values is None else values[index] for _, values in layers], prompt_of_row)
        for index in range(num_layers)
    )
    return PromptStates(
        separator=torch.stack(separators)[prompt_of_row],
        inputs=None if all(vectors is None for vectors in inputs) else _gather(inputs, prompt_of_row),
        keys=keys or None,
        values=values or None,
        input_mask=_column_mask(inputs, prompt_of_row),
        key_mask=_column_mask([None if keys is None else keys[0] for keys, _ in layers], prompt_of_row),
    )


def _gather(tensors: Sequence[Tensor | None], index: Tensor) -> Tensor:
    """`(B, P, …)` of U tensors `(P_u, …)`, padded with zeros at the end."""
    known = [tensor for tensor in tensors if tensor is not None]
    longest = max(map(len, known))
    empty = known[0].new_zeros((0, *known[0].shape[1:]))
    padded = []
    for tensor in tensors:
        columns = empty if tensor is None else tensor
        missing = longest - len(columns)
        # Pairs of paddings count from the last dimension.
        padded.append(nn.functional.pad(columns, (0, 0) * (columns.dim() - 1) + (0, missing)) if missing else columns)
    return torch.stack(padded)[index]


def _column_mask(tensors: Sequence[Tensor | None], index: Tensor) -> Tensor | None:
    """`(B, P)`: columns that each row has; `None` where all have all."""
    lengths = [0 if tensor is None else len(tensor) for tensor in tensors]
    if len(set(lengths)) == 1:
        return None
    columns = torch.arange(max(lengths), device=index.device)
    return columns < torch.tensor(lengths, device=index.device)[index].unsqueeze(1)
