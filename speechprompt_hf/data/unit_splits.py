"""Splits and rows of recordings to the same with units."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from datasets import Dataset

from ..core.errors import ConfigurationError, DatasetError
from .augmentation import Augmentation
from .extraction import SkippedItem, extract_units
from .lengths import why_too_long
from .loading import Splits

__all__ = ["unit_rows", "unit_splits", "why_few_are_left", "without_too_long"]


def unit_splits(
    splits: Splits,
    processor: Any,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    num_copies: int = 0,
    seed: int = 0,
    progress: bool = True,
) -> tuple[Splits, list[SkippedItem]]:
    """The same splits with units, and the recordings that were left out.

    Args:
        splits (`Splits`): rows of recordings or of units.
        processor (`SpeechUnitProcessor`, *optional*): needed for recordings.
        cache_dir (`str | PathLike`, *optional*): of units.
        num_copies (`int`, defaults to 0): augmented copies of training recordings.
        seed (`int`, defaults to 0): of the copies.
        progress (`bool`, defaults to `True`): bars on stderr.

    Raises:
        ConfigurationError: the rows are recordings and there is no processor.
    """
    skips: list[SkippedItem] = []

    def units_of_part(name: str, rows: Dataset) -> Dataset:
        copies = num_copies if name == "train" else 0
        units, skipped = unit_rows(
            rows, processor, cache_dir=cache_dir, num_copies=copies, seed=seed, progress=progress
        )
        skips.extend(skipped)
        return units

    return splits.map_parts(units_of_part), skips


def unit_rows(rows: Dataset, processor: Any, **options: Any) -> tuple[Dataset, Sequence[SkippedItem]]:
    """Rows with units, and the recordings that were left out; rows of units pass unchanged.

    Args:
        rows (`Dataset`): rows of recordings or of units.
        processor (`SpeechUnitProcessor`, *optional*): needed for recordings.
        options: for `extract_units`.

    Raises:
        ConfigurationError: the rows are recordings and there is no processor.
    """
    if "units" in rows.column_names:
        return rows, ()
    if processor is None:
        raise ConfigurationError(
            "the data are recordings and the base has no processor that makes units of them",
            hint="use a base with processor_config.json, or a data set of units",
        )
    extracted = extract_units(rows, processor, augmentation=Augmentation(), **options)
    return extracted.dataset, extracted.skips


def without_too_long(rows: Dataset, max_tokens: int) -> tuple[Dataset, list[SkippedItem]]:
    """Rows that fit a language model, and those that were left out because they have too many units.

    Args:
        rows (`Dataset`): rows with `units` and `item`.
        max_tokens (`int`): the language model's `max_utterance_tokens`.

    Raises:
        DatasetError: not one row fits.
    """
    reasons = [why_too_long(len(units), max_tokens) for units in rows["units"]]
    fitting = [row for row, reason in enumerate(reasons) if reason is None]
    if len(fitting) == len(rows):
        return rows, []
    skips = [
        SkippedItem(item, "UnitError", reason)
        for item, reason in zip(rows["item"], reasons, strict=True)
        if reason is not None
    ]
    if not fitting:
        raise DatasetError(f"not one of {len(rows)} rows can be used, first {skips[0].item!r}: {skips[0].message}")
    return rows.select(fitting), skips


def why_few_are_left(num_rows: int, skips: Sequence[SkippedItem]) -> list[str]:
    """A sentence for the reader of a result where more than half of the rows were left out; else none.

    Args:
        num_rows (`int`): rows that are left.
        skips (`Sequence[SkippedItem]`): those that were left out.
    """
    if len(skips) <= num_rows:
        return []
    first = skips[0]
    # Errors of recordings begin with the recording.
    reason = first.message if first.message.startswith(first.item) else f"{first.item}: {first.message}"
    return [
        f"more than half of the rows, {len(skips)} of {num_rows + len(skips)}, were left out: what is measured holds "
        f"for the others alone (first {reason})"
    ]
