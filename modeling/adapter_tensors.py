"""A prompt as the tensors of a PEFT adapter: PEFT's table, and what lies beside it in modules of the base."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..core.errors import AdapterError
from .configuration_speechprompt import SpeechPromptConfig
from .prompt_base import PromptModule
from .unit_language_model import UnitLanguageModel

__all__ = ["fill_prompt", "prompt_shapes", "prompt_tensors"]

_TABLE = "prompt_embeddings"


def prompt_shapes(config: SpeechPromptConfig, lm: UnitLanguageModel) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a prompt's tensors, without making them.

    Args:
        config (`SpeechPromptConfig`): kind and length of the prompt.
        lm (`UnitLanguageModel`): the base.
    """
    width, columns, separator = lm.config.hidden_size, config.num_virtual_tokens, _separator(lm)
    sizes = [2 * layer.width for layer in lm.prompt_layers()] if config.prompt_type == "deep" else [width]
    of_encoder = lm.num_encoder_prompt_layers if config.prompt_type == "deep" else 0
    shapes: dict[str, tuple[int, ...]] = {
        f"{separator}num_prompt_columns": (),
        f"{separator}offset": (1, width),
        _TABLE: (columns, sum(sizes[of_encoder:])),
    }
    if of_encoder:
        shapes[_encoder_table(lm)] = (columns, sum(sizes[:of_encoder]))
    return shapes


def prompt_tensors(prompt: PromptModule, lm: UnitLanguageModel) -> dict[str, Tensor]:
    """The tensors under which PEFT saves a prompt, float32 on the CPU.

    Args:
        prompt (`PromptModule`): the prompt.
        lm (`UnitLanguageModel`): the base that it belongs to.
    """
    separator, table = _separator(lm), prompt.table(lm)
    tensors = {
        f"{separator}num_prompt_columns": torch.tensor(prompt.num_input_columns),
        f"{separator}offset": prompt.separator_offset.detach().float().cpu().contiguous(),
    }
    of_encoder = prompt_shapes(prompt.config, lm).get(_encoder_table(lm), (0, 0))[1]
    tensors[_TABLE] = table[:, of_encoder:].contiguous()
    if of_encoder:
        tensors[_encoder_table(lm)] = table[:, :of_encoder].contiguous()
    return tensors


def fill_prompt(prompt: PromptModule, lm: UnitLanguageModel, tensors: Mapping[str, Tensor], source: str) -> None:
    """Take over what `prompt_tensors` gave.

    Args:
        prompt (`PromptModule`): changed in place.
        lm (`UnitLanguageModel`): the base.
        tensors (`Mapping[str, Tensor]`): of the file.
        source (`str`): how messages call the file.

    Raises:
        AdapterError: other tensors than the prompt has; nothing is dropped silently.
    """
    expected = prompt_shapes(prompt.config, lm)
    if set(tensors) != set(expected):
        raise AdapterError(
            f"{source} holds {sorted(tensors)} instead of {sorted(expected)}",
            hint="adapters without a trained separator are opened with peft.PeftModel.from_pretrained",
        )
    offset = tensors[f"{_separator(lm)}offset"]
    if offset.shape != prompt.separator_offset.shape:
        raise AdapterError(
            f"the separator of {source} has shape {tuple(offset.shape)} instead of "
            f"{tuple(prompt.separator_offset.shape)}",
            hint="the adapter belongs to a base of another size",
        )
    table = tensors[_TABLE]
    if _encoder_table(lm) in expected:
        table = torch.cat([tensors[_encoder_table(lm)], table], dim=1)
    prompt.load_table(table)
    prompt.separator_offset.data.copy_(offset)


def _separator(lm: UnitLanguageModel) -> str:
    return f"base_model.{lm.separator_path}."


def _encoder_table(lm: UnitLanguageModel) -> str:
    return f"base_model.{lm.encoder_prompt_path}.table"
