"""Splits and rows of recordings to the same with units."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from datasets import Dataset

from ..core.errors import ConfigurationError, DatasetError
from .augmentation import Augmentation
from .extraction import SkippedItem, extract_units
from .loading import Splits

__all__ = ["unit_rows", "unit_splits", "without_too_long"]


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


def without_too_long(rows: Dataset, max_positions: int) -> tuple[Dataset, list[SkippedItem]]:
    """Rows that fit a language model, and those that were left out because they have too many units.

    Args:
        rows (`Dataset`): rows with `units` and `item`.
        max_positions (`int`): of the language model; the start token and the separator take two.

    Raises:
        DatasetError: not one row fits.
    """
    lengths = [len(units) for units in rows["units"]]
    fitting = [row for row, length in enumerate(lengths) if length + 2 <= max_positions]
    if len(fitting) == len(rows):
        return rows, []
    skips = [
        SkippedItem(
            item,
            "UnitError",
            f"{length} units; with start and separator more than the base's {max_positions} positions",
        )
        for item, length in zip(rows["item"], lengths, strict=True)
        if length + 2 > max_positions
    ]
    if not fitting:
        raise DatasetError(f"not one of {len(rows)} rows can be used, first {skips[0].item!r}: {skips[0].message}")
    return rows.select(fitting), skips
