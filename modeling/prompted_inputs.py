"""What every pass of a decoder begins with: its cache, and its input vectors with prompts among them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from ..core.errors import ConfigurationError
from .attention import show_columns
from .cache_marks import cache_length, prompt_columns_of_cache
from .embeddings import UnitEmbedding
from .prompt_states import PromptStates

__all__ = ["check_one_input", "embed_columns", "open_cache", "show_inputs"]

AnyCache = TypeVar("AnyCache", bound=Cache)


def check_one_input(input_ids: Tensor | None, inputs_embeds: Tensor | None) -> None:
    """Refuse both or neither of token ids and vectors.

    Raises:
        ConfigurationError: exactly one has to be given.
    """
    if (input_ids is None) == (inputs_embeds is None):
        raise ConfigurationError("give exactly one of input_ids and inputs_embeds")


def open_cache(
    cache: AnyCache | None,
    use_cache: bool | None,
    model: PreTrainedModel,
    stack: Any,
    make_cache: Callable[[], AnyCache],
) -> tuple[AnyCache | None, bool]:
    """The cache of this pass.

    Args:
        cache (`Cache`, *optional*): what the caller gave.
        use_cache (`bool`, *optional*): whether it is returned; by default as configured, and not in training.
        model (`PreTrainedModel`): whose pass it is.
        stack (`nn.Module`): its layers' owner, whose `gradient_checkpointing` says whether they are computed twice.
        make_cache (`Callable`): makes an empty one.

    Returns:
        `tuple[Cache or None, bool]`: the cache, and whether it is returned.

    Raises:
        ConfigurationError: a cache came together with gradient checkpointing.
    """
    checkpointing = stack.gradient_checkpointing and model.training and torch.is_grad_enabled()
    if checkpointing and cache is not None:
        raise ConfigurationError(
            "a cache (and with it PEFT's prefix tuning) cannot be combined with gradient checkpointing",
            hint="train with SpeechPromptForAudioClassification, whose deep prompts need no cache",
        )
    if use_cache is None:
        use_cache = bool(model.config.use_cache and not model.training)
    if use_cache and cache is None and not checkpointing:
        cache = make_cache()
    return cache, use_cache


def embed_columns(
    embed_tokens: UnitEmbedding,
    input_ids: Tensor | None,
    inputs_embeds: Tensor | None,
    cache: Cache | None,
    prompt: PromptStates | None,
) -> tuple[Tensor, int, int]:
    """Input vectors, input prompts in front of them.

    Args:
        embed_tokens (`UnitEmbedding`): of the base; its separator knows how many columns of `inputs_embeds` PEFT put
            in front.
        input_ids (`LongTensor` of shape `(B, N)`, *optional*): token ids; or `inputs_embeds`.
        inputs_embeds (`Tensor` of shape `(B, N, D)`, *optional*): vectors.
        cache (`Cache`, *optional*): of this pass; the number of its prompt columns is remembered on it.
        prompt (`PromptStates`, *optional*): the prompt that was given as an argument.

    Returns:
        `tuple[Tensor, int, int]`: vectors of shape `(B, P + N, D)`; leading columns, in the cache or in this pass,
        that are prompts; and how many of them, P, `prompt.inputs` put in front in this pass.
    """
    past = 0 if cache is None else cache_length(cache)
    num_inputs = 0
    num_front = prompt_columns_of_cache(cache) if past else 0
    if inputs_embeds is not None:
        vectors = inputs_embeds
        if past == 0 and prompt is None:
            num_front = int(embed_tokens.separator.num_prompt_columns)
    elif prompt is None:
        vectors = embed_tokens(input_ids, separator=num_front > 0)
    else:
        vectors = embed_tokens(input_ids, separator=prompt.separator if prompt.separator is not None else False)
    if past == 0 and prompt is not None and prompt.inputs is not None:
        num_front = num_inputs = prompt.num_input_columns
        inputs = prompt.inputs.to(vectors)
        inputs = inputs.expand(len(vectors), -1, -1) if inputs.dim() == 2 else inputs
        vectors = torch.cat([inputs, vectors], dim=1)
    if past == 0:
        prompt_columns_of_cache(cache, num_front)
    return vectors, num_front, num_inputs


def show_inputs(mask: Tensor, prompt: PromptStates | None, *, is_first: bool) -> Tensor:
    """Put columns of input prompts in front of a mask of tokens, `(B, M)` or `(B, 1, N, M)`.

    Args:
        mask (`Tensor`): of the tokens.
        prompt (`PromptStates`, *optional*): with or without input prompts.
        is_first (`bool`): whether the prompts are being read in this pass.

    Raises:
        ConfigurationError: they are, and a mask of four dimensions does not say what they see.
    """
    if prompt is None or not prompt.num_input_columns:
        return mask
    num_columns, column_mask = prompt.num_input_columns, prompt.input_mask
    if mask.dim() == 2 and column_mask is not None:
        return torch.cat([column_mask.to(mask), mask], dim=1)
    if mask.dim() == 2:
        return nn.functional.pad(mask, (num_columns, 0), value=1)
    if is_first:
        raise ConfigurationError(
            f"a mask of shape {tuple(mask.shape)} does not say what input prompts see",
            hint="pass a mask of shape (B, N)",
        )
    return show_columns(mask, num_columns, column_mask)
