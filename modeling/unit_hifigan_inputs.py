"""What a unit vocoder is given, checked: rows of units, their durations, their speakers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..core.errors import ConfigurationError, UnitError

__all__ = ["check_speakers", "durations_of_rows", "units_of_rows"]


def units_of_rows(input_ids: Any, attention_mask: Any, vocab_size: int) -> tuple[list[Tensor], Tensor]:
    """The real units of each row.

    Args:
        input_ids (`LongTensor` of shape `(B, U)`): unit numbers; anything where the mask is 0.
        attention_mask (`Tensor` of shape `(B, U)` or `None`): 1 for real units, on any side; all are without it.
        vocab_size (`int`): units K.

    Returns:
        `tuple[list[LongTensor], BoolTensor]`: B rows of shape `(units of the row,)`, and the mask of shape `(B, U)`.

    Raises:
        UnitError: a shape or type is wrong, a row has no unit, or a unit is not in the vocabulary.
    """
    if not _is_integer(input_ids) or input_ids.dim() != 2:
        raise UnitError(
            f"input_ids is {_described(input_ids)}",
            hint="units are a tensor of whole numbers of shape (batch, units); give one row as ids[None]",
        )
    if attention_mask is None:
        attention_mask = torch.ones_like(input_ids)
    if not isinstance(attention_mask, Tensor) or attention_mask.shape != input_ids.shape:
        raise UnitError(
            f"attention_mask is {_described(attention_mask)}, input_ids has shape {tuple(input_ids.shape)}",
            hint="give 1 for each real unit and 0 for padding",
        )
    mask = attention_mask.bool()
    empty = (~mask.any(dim=1)).nonzero() if input_ids.shape[1] else torch.arange(len(input_ids))
    if not len(input_ids) or len(empty):
        row = f"row {int(empty.flatten()[0])}" if len(empty) else "the batch"
        raise UnitError(f"{row} has no units", hint="leave out what has nothing to say")
    unknown = (mask & ((input_ids < 0) | (input_ids >= vocab_size))).nonzero()
    if len(unknown):
        row, column = unknown[0].tolist()
        raise UnitError(
            f"unit {int(input_ids[row, column])} at column {column} of row {row} is not among the {vocab_size} units "
            f"from 0 to {vocab_size - 1}",
            hint="ids are unit numbers, not tokens of a language model; mask padding with attention_mask",
        )
    return [row[keep].long() for row, keep in zip(input_ids, mask, strict=True)], mask


def durations_of_rows(durations: Any, mask: Tensor) -> list[Tensor]:
    """The durations of each row's real units.

    Args:
        durations (`LongTensor` of shape `(B, U)`): frames of each unit, at least 1; anything where the mask is 0.
        mask (`BoolTensor` of shape `(B, U)`): `True` for real units.

    Returns:
        `list[LongTensor]`: B rows of shape `(units of the row,)`.

    Raises:
        UnitError: a shape or type is wrong, or a duration is below 1.
    """
    if not _is_integer(durations) or durations.shape != mask.shape:
        raise UnitError(
            f"durations is {_described(durations)}, input_ids has shape {tuple(mask.shape)}",
            hint="give a whole number of frames for each unit",
        )
    short = (mask & (durations < 1)).nonzero()
    if len(short):
        row, column = short[0].tolist()
        raise UnitError(
            f"the duration at column {column} of row {row} is {int(durations[row, column])}",
            hint="durations count frames from 1",
        )
    return [row[keep].long() for row, keep in zip(durations, mask, strict=True)]


def check_speakers(speaker_ids: Any, num_speakers: int, num_rows: int) -> Tensor | None:
    """The speaker of each row.

    Args:
        speaker_ids (`LongTensor` of shape `(B,)` or `None`): speakers.
        num_speakers (`int`): how many the vocoder knows; 0: a single voice without a number.
        num_rows (`int`): B.

    Returns:
        `LongTensor` of shape `(B,)`, or `None` for a single voice.

    Raises:
        ConfigurationError: they are missing, unknown, of another shape, or given to a vocoder of a single voice.
    """
    if not num_speakers:
        if speaker_ids is not None:
            raise ConfigurationError("this vocoder has a single voice", hint="leave out speaker_ids")
        return None
    hint = f"give speaker_ids, a tensor of shape (batch,) with numbers from 0 to {num_speakers - 1}"
    if speaker_ids is None:
        raise ConfigurationError(f"this vocoder has {num_speakers} voices, and none was named", hint=hint)
    if not _is_integer(speaker_ids) or speaker_ids.shape != (num_rows,):
        raise ConfigurationError(f"speaker_ids is {_described(speaker_ids)} for {num_rows} rows", hint=hint)
    unknown = ((speaker_ids < 0) | (speaker_ids >= num_speakers)).nonzero()
    if len(unknown):
        row = int(unknown[0])
        raise ConfigurationError(f"speaker {int(speaker_ids[row])} of row {row} is unknown", hint=hint)
    return speaker_ids.long()


def _is_integer(value: Any) -> bool:
    return isinstance(value, Tensor) and not (
        value.is_floating_point() or value.is_complex() or value.dtype == torch.bool
    )


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} and type {str(value.dtype).removeprefix('torch.')}"
    return f"a {type(value).__name__}"
