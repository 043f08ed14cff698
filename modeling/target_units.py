"""Units as an output vocabulary: what an adapter that answers with speech says, one token a unit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from transformers import PreTrainedTokenizerFast

from ..core.errors import ConfigurationError
from ..core.extras import require
from ..core.vocabulary import EOS_TOKEN_ID, SPECIAL_TOKENS, UNK_TOKEN_ID
from .configuration_speechprompt import MAX_OUTPUT_VOCAB_SIZE

__all__ = [
    "MAX_TARGET_UNITS",
    "check_target_units",
    "check_unit_tokenizer",
    "target_units_record",
    "tokens_to_units",
    "unit_output_tokenizer",
    "units_to_tokens",
]

MAX_TARGET_UNITS = MAX_OUTPUT_VOCAB_SIZE - len(SPECIAL_TOKENS)
"""The most units of a target vocabulary."""


def target_units_record(
    num_units: int, fingerprint: Mapping[str, Any] | None = None, frame_rate: float | None = None
) -> dict[str, Any]:
    """What a configuration says of the units that are said.

    Args:
        num_units (`int`): units K, numbered from 0.
        fingerprint (`Mapping`, *optional*): identity of the units, as the processor that makes them states it.
        frame_rate (`float`, *optional*): frames of them in a second.

    Returns:
        `dict`: `num_units`, `fingerprint`, `frame_rate`.

    Raises:
        ConfigurationError: a value is out of range.
    """
    record = {
        "num_units": num_units,
        "fingerprint": None if fingerprint is None else dict(fingerprint),
        "frame_rate": None if frame_rate is None else float(frame_rate),
    }
    check_target_units(record)
    return record


def check_target_units(record: Any) -> None:
    """Refuse what is no record of target units.

    Args:
        record (`Any`): `target_units` of a configuration.

    Raises:
        ConfigurationError: it is no object, or a value is missing or out of range.
    """
    if not isinstance(record, Mapping):
        raise ConfigurationError(f"target_units is {record!r:.60}", hint="num_units, fingerprint and frame_rate")
    num_units = record.get("num_units")
    if type(num_units) is not int or not 1 <= num_units <= MAX_TARGET_UNITS:
        raise ConfigurationError(
            f"num_units of target_units is {num_units!r:.60}", hint=f"a whole number from 1 to {MAX_TARGET_UNITS}"
        )
    rate = record.get("frame_rate")
    if rate is not None and (type(rate) not in (int, float) or not math.isfinite(rate) or not 0 < rate <= 100_000):
        raise ConfigurationError(f"frame_rate of target_units is {rate!r:.60}", hint="frames a second, above 0")
    fingerprint = record.get("fingerprint")
    if fingerprint is not None and not (
        isinstance(fingerprint, Mapping) and isinstance(fingerprint.get("digest"), str)
    ):
        raise ConfigurationError(
            f"fingerprint of target_units is {fingerprint!r:.60}", hint="an object with a digest, or null"
        )


def unit_output_tokenizer(num_units: int) -> PreTrainedTokenizerFast:
    """The output vocabulary of units: unit u is token u + 4 and the word of its number, whether rows have it or not.

    Args:
        num_units (`int`): units K.

    Returns:
        `PreTrainedTokenizerFast`: of texts such as `"71 12 56"`, K + 4 tokens.

    Raises:
        ConfigurationError: there are too few or too many units.
    """
    check_target_units({"num_units": num_units})
    # By name: this code travels to readers, and transformers refuses code that imports what they may lack.
    library = require("tokenizers")
    words = [*SPECIAL_TOKENS, *map(str, range(num_units))]
    tokens = {word: token for token, word in enumerate(words)}
    tokenizer = library.Tokenizer(library.models.WordLevel(tokens, unk_token=SPECIAL_TOKENS[UNK_TOKEN_ID]))
    tokenizer.pre_tokenizer = library.pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.post_processor = library.processors.TemplateProcessing(
        single=f"$A {SPECIAL_TOKENS[EOS_TOKEN_ID]}",
        special_tokens=[(SPECIAL_TOKENS[EOS_TOKEN_ID], EOS_TOKEN_ID)],
    )
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token"), SPECIAL_TOKENS, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def check_unit_tokenizer(tokenizer: PreTrainedTokenizerFast, num_units: int) -> None:
    """Refuse an output tokenizer whose tokens are not the units of a target vocabulary, in their order.

    Args:
        tokenizer (`PreTrainedTokenizerFast`): `<s>`, `<pad>`, `</s>` and `<unk>` are its first tokens.
        num_units (`int`): units K.

    Raises:
        ConfigurationError: there are others, or in another order.
    """
    found = tokenizer.convert_ids_to_tokens(list(range(len(SPECIAL_TOKENS), len(tokenizer))))
    if len(found) != num_units:
        raise ConfigurationError(
            f"the output tokenizer has {len(found)} words, and there are {num_units} target units",
            hint="make it with unit_output_tokenizer(num_units)",
        )
    for unit, word in enumerate(found):
        if word != str(unit):
            raise ConfigurationError(
                f"token {unit + len(SPECIAL_TOKENS)} of the output tokenizer is {word!r:.60}, not unit {unit}",
                hint="make it with unit_output_tokenizer(num_units)",
            )


def units_to_tokens(units: Iterable[int]) -> list[int]:
    """Output tokens of units, `</s>` last.

    Args:
        units (`Iterable[int]`): units of the target vocabulary.
    """
    return [*(int(unit) + len(SPECIAL_TOKENS) for unit in units), EOS_TOKEN_ID]


def tokens_to_units(tokens: Iterable[int]) -> list[int]:
    """The units of output tokens up to `</s>`, equal neighbours merged.

    Args:
        tokens (`Iterable[int]`): output tokens of one answer; `<s>`, padding and -100 are left out.
    """
    units: list[int] = []
    for token in tokens:
        if token == EOS_TOKEN_ID:
            break
        unit = int(token) - len(SPECIAL_TOKENS)
        if unit >= 0 and (not units or units[-1] != unit):
            units.append(unit)
    return units
