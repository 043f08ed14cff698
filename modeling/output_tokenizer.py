"""The tokenizer of an output vocabulary, one file in an adapter's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from ..core.errors import AdapterError, ConfigurationError
from ..core.files import atomic_path
from ..core.vocabulary import SPECIAL_TOKENS
from .adapter_files import OUTPUT_TOKENIZER, find_file
from .untrusted_tokenizer import check_tokenizer_file

__all__ = ["check_output_tokenizer", "load_output_tokenizer", "save_output_tokenizer"]

_NAMES = ("bos_token", "pad_token", "eos_token", "unk_token")


def check_output_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    """Refuse a tokenizer whose first tokens are not `<s>`, `<pad>`, `</s>`, `<unk>`.

    Raises:
        ConfigurationError: they are others, or there is nothing else.
    """
    first = tuple(tokenizer.convert_ids_to_tokens(list(range(min(len(tokenizer), len(SPECIAL_TOKENS))))))
    if first != SPECIAL_TOKENS:
        raise ConfigurationError(
            f"the first tokens of the output tokenizer are {first}",
            hint=f"they must be {', '.join(SPECIAL_TOKENS)}: make it with processors.build_output_tokenizer",
        )
    if len(tokenizer) == len(SPECIAL_TOKENS):
        raise ConfigurationError("the output tokenizer has nothing to say", hint="build it from texts")


def save_output_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write it into an adapter's folder, whole or not at all."""
    with atomic_path(folder / OUTPUT_TOKENIZER) as temporary:
        tokenizer.backend_tokenizer.save(str(temporary))


def load_output_tokenizer(name: str, size: int, hub: dict[str, Any]) -> PreTrainedTokenizerFast:
    """The tokenizer in an adapter's folder or repository.

    Args:
        name (`str`): folder or Hub id.
        size (`int`): tokens that the adapter's configuration names.
        hub (`dict`): where and how files are found.

    Raises:
        AdapterError: it is missing, damaged, or has another size.
    """
    path = find_file(name, OUTPUT_TOKENIZER, **hub)
    if path is None:
        raise AdapterError(
            f"{name} has no {OUTPUT_TOKENIZER}",
            hint="the adapter was not saved completely; save it again with save_pretrained",
        )
    try:
        check_tokenizer_file(path, size)
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=path, **dict(zip(_NAMES, SPECIAL_TOKENS, strict=True)))
        check_output_tokenizer(tokenizer)
    except AdapterError:
        raise
    except Exception as error:
        raise AdapterError(f"{path} cannot be read: {error}", hint="it is damaged: copy or save it again") from error
    if len(tokenizer) != size:
        raise AdapterError(
            f"{OUTPUT_TOKENIZER} of {name} has {len(tokenizer)} tokens, its config.json names {size}",
            hint="the files come from different runs; save the adapter again",
        )
    return tokenizer
