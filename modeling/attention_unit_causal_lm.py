"""Attention of stock models with a prompt's keys and values in front of the layer's own."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .attention import eager_attention, put_in_front
from .attention_parts import attend_in_parts, parts_of_layer
from .prompt_states import PromptStates

__all__ = ["PROMPTED_ATTENTION", "attend_with_prompt"]

PROMPTED_ATTENTION = "speechprompt"
"""Under this name the attention of this module is registered with transformers."""


def attend_with_prompt(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    speech_prompt: PromptStates | None = None,
    speech_attention: str = "sdpa",
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attend, as the attention functions of transformers do.

    A prompt comes as an argument and not in a cache, so that gradients can be checkpointed.

    Args:
        module (`nn.Module`): the attention; `layer_idx` says which layer it is.
        query (`Tensor` of shape `(B, H, N, D/H)`): queries.
        key (`Tensor` of shape `(B, G, M, D/H)`): keys of tokens; G divides H.
        value (`Tensor` of the same shape): values of tokens.
        attention_mask (`Tensor` of shape `(B or 1, 1, N, P + M)`): with columns for the prompt's keys, bool for
            `"sdpa"`, floating for `"eager"`.
        speech_prompt (`PromptStates`, *optional*): the prompt, and utterances that were read before.
        speech_attention (`str`, defaults to `"sdpa"`): `"sdpa"` or `"eager"`.
        options: further arguments of transformers' attention functions.

    Returns:
        `tuple[Tensor, Tensor | None]`: what was attended to, of shape `(B, N, H, D/H)`, and with `"eager"` the
        weights.
    """
    known: dict[str, Any] = {name: options[name] for name in ("dropout", "scaling") if name in options}
    if speech_prompt is not None:
        layer_index: Any = module.layer_idx
        prompt_keys, prompt_values = speech_prompt.layer(layer_index)
        read = speech_prompt.read_layer(layer_index)
        if read is not None:
            parts = parts_of_layer(prompt_keys, prompt_values, read, (key, value))
            known = {"scaling": query.shape[-1] ** -0.5} | known
            return attend_in_parts(query, parts, attention_mask, **known), None
        if prompt_keys is not None and prompt_values is not None:
            key, value = put_in_front(prompt_keys, key), put_in_front(prompt_values, value)
    if speech_attention == "eager":
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
        return eager_attention(module, query, key, value, attention_mask, **known)
    return ALL_ATTENTION_FUNCTIONS["sdpa"](module, query, key, value, attention_mask, **options)


# By its name the configuration of a wrapped model asks for it.
ALL_ATTENTION_FUNCTIONS.register(PROMPTED_ATTENTION, attend_with_prompt)
