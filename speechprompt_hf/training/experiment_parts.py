"""What experiments of every kind of task do alike: units of the base, once; what their reports say of the data."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import AutoProcessor, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..core.embedded import resolve_base
from ..core.errors import AdapterError
from ..core.locations import reading
from ..data.extraction import SkippedItem
from ..data.fingerprint import data_fingerprint
from ..data.loading import Splits
from ..data.trained_rows import TRAINED_ROWS_FILE
from ..data.unit_identity import check_unit_identity
from ..data.unit_splits import unit_splits, why_few_are_left, without_too_long
from ..modeling.adapter_reading import load_processor
from ..processors.loading import check_processor_config

__all__ = [
    "CONFUSION_FILE",
    "REPORT_FILE",
    "OldReportRemoval",
    "base_processor",
    "data_record",
    "prepared_splits",
]

REPORT_FILE = "report.json"
CONFUSION_FILE = "confusion.png"


class OldReportRemoval(TrainerCallback):
    """Deletes what an earlier run said of its adapter, when the training that replaces the adapter has ended.

    Args:
        folder (`Path`): of the adapter.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Delete report, confusion matrix and digests of rows."""
        if state.is_world_process_zero:
            for name in (REPORT_FILE, CONFUSION_FILE, TRAINED_ROWS_FILE):
                (self.folder / name).unlink(missing_ok=True)


def prepared_splits(
    recorded: Splits,
    lm: Any,
    processor: Any,
    *,
    max_tokens: int,
    cache_dir: str | os.PathLike[str] | None,
    num_copies: int,
    seed: int,
    progress: bool,
) -> tuple[Splits, list[SkippedItem]]:
    """Splits with units that the base reads, with notes for the reader of the report; and what was left out.

    Args:
        recorded (`Splits`): of recordings or of units.
        lm (`UnitLanguageModel`): the base.
        processor (`SpeechUnitProcessor`, *optional*): the base's.
        max_tokens (`int`): rows of more tokens are left out.
        cache_dir (`str | PathLike`, *optional*): of units.
        num_copies (`int`): augmented copies of training recordings.
        seed (`int`): of the copies.
        progress (`bool`): bars on stderr.

    Raises:
        DatasetError: not one row of a part fits.
        ConfigurationError: recordings, and no processor.
        FingerprintMismatchError: units of another encoder than the base's.
    """
    if recorded.kind == "units":
        recorded = _identified(recorded, lm, processor)
    splits, skips = unit_splits(
        recorded, processor, cache_dir=cache_dir, num_copies=num_copies, seed=seed, progress=progress
    )
    splits = splits.map_parts(lambda _, rows: _fitting(rows, max_tokens, skips))
    # Augmented copies are no rows of their own.
    num_copied = len(splits.train) * num_copies // (1 + num_copies)
    few_left = why_few_are_left(sum(len(rows) for _, rows in splits.items()) - num_copied, skips)
    for sentence in few_left:
        # Before hours of training, which nobody may want.
        warnings.warn(sentence, UserWarning, stacklevel=3)
    return splits.with_notes(few_left), skips


def data_record(splits: Splits, source: str, limits: Mapping[str, int] | None = None) -> Mapping[str, Any]:
    """What a report says of its data: source, speakers, fingerprint, and how the parts were made.

    Args:
        splits (`Splits`): rows with units.
        source (`str`): what the data set is called.
        limits (`Mapping[str, int]`, *optional*): `max_utterance_tokens` and `max_text_tokens`, where longer rows were
            left out; without them the parts cannot be made again.
    """
    options = None if splits.options is None else {**splits.options, "carved": list(splits.carved), **(limits or {})}
    return {
        "source": source,
        "speakers_apart": splits.speakers_apart,
        "fingerprint": data_fingerprint(splits),
        "split": options,
    }


def base_processor(base: str | os.PathLike[str]) -> Any:
    """The processor of a base.

    Args:
        base (`str | PathLike`): Hub id, folder or embedded name.

    Returns:
        `SpeechUnitProcessor | None`: `None` where it has none: a language model alone, for data sets of units.

    Raises:
        AdapterError: it cannot be read.
        ConfigurationError: its `processor_config.json` is damaged.
    """
    name = resolve_base(os.fspath(base))
    with reading(name, AdapterError, "the processor of the base"):
        if not os.path.isdir(name):
            return load_processor(name, {})
        if not os.path.isfile(os.path.join(name, "processor_config.json")):
            return None
        check_processor_config(name)
        return AutoProcessor.from_pretrained(name)


def _fitting(rows: Dataset, max_tokens: int, skips: list[SkippedItem]) -> Dataset:
    """The rows that the language model can take; `skips` gets the others."""
    rows, too_long = without_too_long(rows, max_tokens)
    skips.extend(too_long)
    return rows


def _identified(splits: Splits, lm: Any, processor: Any) -> Splits:
    """Units of the base's own encoder; where nothing says what made them, a note for the reader of the report."""
    wanted = lm.config.fingerprint or getattr(processor, "fingerprint", None)
    check_unit_identity(splits.unit_fingerprint, wanted, "the data set")
    if splits.unit_fingerprint or not wanted:
        return splits
    note = (
        "nothing says which encoder made these units (speechprompt units writes units.json): new recordings are "
        "answered as if it had been the base's"
    )
    return replace(splits, notes=(*splits.notes, note))
