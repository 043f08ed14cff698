"""Data sets of labelled speech: reading, splitting, units with a cache, batches. Loads lazily."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .augmentation import AUGMENTATIONS, Augmentation
    from .collators import UnitCollator, labelled_units
    from .extraction import ExtractedUnits, SkippedItem, extract_units, units_of
    from .fingerprint import data_fingerprint
    from .loading import Splits, load_rows, load_splits
    from .sequence_rows import SequenceCollator, said_units, task_tokenizer
    from .text_loading import load_text_rows, load_text_splits
    from .unit_splits import unit_rows, unit_splits
    from .unit_store import UnitStore, default_cache_dir

_HOME = {
    "load_text_splits": "text_loading",
    "load_text_rows": "text_loading",
    "task_tokenizer": "sequence_rows",
    "said_units": "sequence_rows",
    "SequenceCollator": "sequence_rows",
    "AUGMENTATIONS": "augmentation",
    "Augmentation": "augmentation",
    "ExtractedUnits": "extraction",
    "SkippedItem": "extraction",
    "Splits": "loading",
    "UnitCollator": "collators",
    "UnitStore": "unit_store",
    "data_fingerprint": "fingerprint",
    "default_cache_dir": "unit_store",
    "extract_units": "extraction",
    "labelled_units": "collators",
    "load_rows": "loading",
    "load_splits": "loading",
    "unit_rows": "unit_splits",
    "unit_splits": "unit_splits",
    "units_of": "extraction",
}

__all__ = [
    "AUGMENTATIONS",
    "Augmentation",
    "ExtractedUnits",
    "SequenceCollator",
    "SkippedItem",
    "Splits",
    "UnitCollator",
    "UnitStore",
    "data_fingerprint",
    "default_cache_dir",
    "extract_units",
    "labelled_units",
    "load_rows",
    "load_splits",
    "load_text_rows",
    "load_text_splits",
    "said_units",
    "task_tokenizer",
    "unit_rows",
    "unit_splits",
    "units_of",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
