"""Rows of recordings or units to pairs of units: what is read, and what is to be said, of speech after speech."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Audio, Dataset, Features, List, Value

from ..core.errors import ConfigurationError, DatasetError, UnitError
from ..tasks import SpeechTask
from .columns import known_columns, unify_with
from .extraction import SkippedItem
from .loading import Splits, make_splits, one_part
from .sources import rooted
from .unit_identity import merged_durations, merged_units
from .unit_splits import unit_rows

__all__ = ["load_speech_rows", "load_speech_splits", "pair_rows", "pair_splits"]

# Units as text; anything else in a text column is the path of a recording.
_UNITS = re.compile(r"\s*\d+(\s+\d+)*\s*")
_TARGETS = {"audio": "target_audio", "units": "target_units"}


def load_speech_splits(
    source: str | os.PathLike[str],
    task: SpeechTask,
    *,
    speaker_column: str | None = None,
    validation_fraction: float = 0.15,
    test_fraction: float = 0.2,
    seed: int = 0,
    config_name: str | None = None,
    revision: str | None = None,
) -> Splits:
    """Read a data set for a task of speech, and make the parts that it lacks; labels are not needed.

    Args:
        source (`str | PathLike`): see `load_splits`.
        task (`SpeechTask`): names the columns: recordings (paths, bytes) or units (lists of integers, or text such as
            `"71 12 56"`).
        speaker_column (`str`, *optional*): see `load_splits`.
        validation_fraction (`float`, defaults to 0.15): share of the training rows for validation, if it is missing.
        test_fraction (`float`, defaults to 0.2): share of the rows for the test, if it is missing.
        seed (`int`, defaults to 0): of the parts that are made.
        config_name (`str`, *optional*): configuration of a Hub data set.
        revision (`str`, *optional*): revision of a Hub data set.

    Returns:
        `Splits`: with empty labels, `durations` where units that are to be continued came with them, and
        `target_audio` or `target_units` of a translation. `pair_splits` makes pairs of them.

    Raises:
        DatasetError: nothing to read, an unknown column, or an empty part.
        UnitError: units that are neither integers nor text of integers, or durations that do not fit them.
    """
    options = {
        "speaker_column": speaker_column,
        "validation_fraction": validation_fraction,
        "test_fraction": test_fraction,
        "seed": seed,
        "config_name": config_name,
        "revision": revision,
    }
    read = partial(_with_target, task=task, speaker_column=speaker_column)
    return make_splits(source, read, options, strata=lambda rows: [""] * len(rows), measured="the result")


def load_speech_rows(
    source: str | os.PathLike[str],
    task: SpeechTask,
    *,
    split: str = "test",
    speaker_column: str | None = None,
    config_name: str | None = None,
    revision: str | None = None,
) -> Dataset:
    """One part of such a data set, or all of a data set without parts; arguments as of `load_speech_splits`.

    Raises:
        DatasetError: as for `load_speech_splits`, or there is no such part.
    """
    read = partial(_with_target, task=task, speaker_column=speaker_column)
    return one_part(source, split, read, config_name=config_name, revision=revision)


def pair_splits(
    splits: Splits,
    task: SpeechTask,
    processor: Any,
    target_processor: Any = None,
    *,
    num_units: int,
    num_target_units: int | None = None,
    frame_rate: float | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    num_copies: int = 0,
    seed: int = 0,
    progress: bool = True,
) -> tuple[Splits, list[SkippedItem]]:
    """Splits of pairs: units that are read, and in `label` the text of those that are to be said.

    Units of recordings on both sides come from the cache where they are there, so that a stopped run goes on.

    Args:
        splits (`Splits`): from `load_speech_splits`.
        task (`SpeechTask`): makes pairs.
        processor (`SpeechUnitProcessor`, *optional*): makes units of what is read; needed for recordings.
        target_processor (`SpeechUnitProcessor`, *optional*): of what is to be said; the same by default.
        num_units (`int`): units that the base reads.
        num_target_units (`int`, *optional*): units that are said; as many as are read by default.
        frame_rate (`float`, *optional*): of the units that are read, frames in a second.
        cache_dir (`str | PathLike`, *optional*): of units.
        num_copies (`int`, defaults to 0): augmented copies of each training recording that is read.
        seed (`int`, defaults to 0): of copies and damage.
        progress (`bool`, defaults to `True`): bars on stderr.

    Returns:
        `tuple[Splits, list[SkippedItem]]`: the pairs, and the rows that were left out.

    Raises:
        DatasetError: not one row of a part makes a pair.
        ConfigurationError: recordings, and no processor.
        UnitError: a unit that is to be said is not among the target units.
    """
    skips: list[SkippedItem] = []

    def pairs(name: str, rows: Dataset) -> Dataset:
        made, left_out = pair_rows(
            rows,
            task,
            processor,
            target_processor,
            num_units=num_units,
            num_target_units=num_target_units,
            frame_rate=frame_rate,
            cache_dir=cache_dir,
            num_copies=num_copies if name == "train" else 0,
            seed=seed,
            progress=progress,
        )
        skips.extend(left_out)
        return made

    made = splits.map_parts(pairs)
    fingerprint = splits.unit_fingerprint if splits.kind == "units" else getattr(processor, "fingerprint", None)
    return replace(made, unit_fingerprint=fingerprint), skips


def pair_rows(
    rows: Dataset,
    task: SpeechTask,
    processor: Any,
    target_processor: Any = None,
    *,
    num_units: int,
    num_target_units: int | None = None,
    frame_rate: float | None = None,
    seed: int = 0,
    **extraction: Any,
) -> tuple[Dataset, list[SkippedItem]]:
    """The same for one part.

    Args:
        rows (`Dataset`): of `load_speech_splits`.
        task (`SpeechTask`): makes pairs.
        processor (`SpeechUnitProcessor`, *optional*): as for `pair_splits`.
        target_processor (`SpeechUnitProcessor`, *optional*): as for `pair_splits`.
        num_units (`int`): units that the base reads.
        num_target_units (`int`, *optional*): as for `pair_splits`.
        frame_rate (`float`, *optional*): of the units that are read.
        seed (`int`, defaults to 0): of copies and damage.
        extraction: `cache_dir`, `num_copies` and `progress` of `extract_units`.

    Raises:
        DatasetError: not one row makes a pair.
        ConfigurationError: recordings, and no processor.
        UnitError: a unit that is to be said is not among the target units.
    """
    rows, skips = _with_target_units(rows, target_processor or processor, extraction)
    units, left_out = unit_rows(rows, processor, seed=seed, **extraction)
    skips += left_out
    columns: dict[str, Sequence[Any]] = {
        name: list(units[name]) if name in units.column_names else [None] * len(units)
        for name in ("units", "durations", "target_units")
    }
    pairs = [
        task.pair(row, lengths, target, num_units=num_units, frame_rate=frame_rate, seed=seed)
        for row, lengths, target in zip(*columns.values(), strict=True)
    ]
    kept, read, said = [], [], []
    for number, (item, pair) in enumerate(zip(units["item"], pairs, strict=True)):
        if pair is None:
            skips.append(SkippedItem(item, "UnitError", f"{item} has too few units for the task {task.name}"))
            continue
        source, target = pair
        _check_targets(target, item, task, num_units if num_target_units is None else num_target_units)
        if task.kind == "continuation":
            # One token is for the end.
            target = target[: task.max_tokens - 1]
        kept.append(number)
        read.append(source)
        said.append(" ".join(map(str, target)))
    if not kept:
        raise DatasetError(f"not one of {len(units)} rows can be used, first {skips[0].item!r}: {skips[0].message}")
    made = units.select(kept).remove_columns(
        [name for name in ("units", "durations", "prosody", "label", "target_units") if name in units.column_names]
    )
    made = made.add_column("units", read, feature=List(Value("int32")))
    return made.add_column("label", said, feature=Value("string")), skips


def _check_targets(units: Sequence[int], item: str, task: SpeechTask, num_target_units: int) -> None:
    """Refuse what no output vocabulary of so many units can say: training would pass over it in silence."""
    wrong = next((unit for unit in units if not 0 <= unit < num_target_units), None)
    if wrong is None:
        return
    hint = "units and language model must come from the same quantizer"
    if task.kind == "translation":
        hint = "name the base that makes these units: target_base (--target-base); or say num_target_units"
    raise UnitError(
        f"unit {wrong} of {item}, which is to be said, is not among the {num_target_units} target units", hint=hint
    )


def _with_target(
    table: Dataset, name: str, root: Path | None, *, task: SpeechTask, speaker_column: str | None
) -> Dataset:
    """One table with the columns of `load_speech_splits`."""
    source = task.source_column
    if source is not None and source not in ("audio", "units"):
        known_columns(table, [source], "what is read", "source_column (--source-column)")
        column, kind = _content(table, source, root)
        table = table.remove_columns([each for each in ("audio", "units") if each in table.column_names])
        table = table.add_column(kind, list(column[kind]), feature=column.features[kind])
    target: Dataset | None = None
    if task.target_column is not None:
        known_columns(table, [task.target_column], "what is to be said", "target_column (--target-column)")
        target, kind = _content(table, task.target_column, root)
    # Paths of a renamed column have their root already.
    has_root = source is not None and source not in ("audio", "units")
    rows = unify_with(table, name, None if has_root else root, speaker_column, lambda items: [""] * len(items))
    if target is not None:
        if kind == "units":
            target = merged_units(target, rows["item"])
        rows = rows.add_column(_TARGETS[kind], list(target[kind]), feature=target.features[kind])
    # Only a continuation is cut by them; a column of this name may mean something else elsewhere.
    if task.kind == "continuation" and "units" in rows.column_names and "durations" in table.column_names:
        columns = (table["durations"], table["units"], rows["item"])
        lengths = [merged_durations(*row) for row in zip(*columns, strict=True)]
        rows = rows.add_column("durations", lengths, feature=List(Value("int32")))
    return rows


def _content(table: Dataset, column: str, root: Path | None) -> tuple[Dataset, str]:
    """A table of one column, `audio` or `units`, whichever it holds."""
    one = table.select_columns([column])
    feature = one.features[column]
    if isinstance(feature, Audio):
        one = one.cast_column(column, Audio(decode=False))
        return _renamed(one, column, "audio"), "audio"
    if isinstance(feature, List):
        return _renamed(one, column, "units"), "units"
    if isinstance(feature, Value) and feature.dtype in ("string", "large_string"):
        first = next((value for value in one[column] if value), "")
        if _UNITS.fullmatch(first):
            return _renamed(one, column, "units"), "units"
    return rooted(_renamed(one, column, "audio"), root), "audio"


def _renamed(table: Dataset, column: str, name: str) -> Dataset:
    return table if column == name else table.rename_column(column, name)


def _with_target_units(
    rows: Dataset, processor: Any, extraction: dict[str, Any]
) -> tuple[Dataset, list[SkippedItem]]:
    """Rows with `target_units` in the place of `target_audio`, and those whose target cannot be used."""
    if "target_audio" not in rows.column_names:
        return rows, []
    if processor is None:
        raise ConfigurationError(
            "what is to be said are recordings, and there is no processor that makes units of them",
            hint="name a base with one: target_base (--target-base)",
        )
    table = rows.select_columns(["target_audio", "item"]).rename_column("target_audio", "audio")
    table = table.add_column("number", list(range(len(rows))), feature=Value("int64"))
    found, skips = unit_rows(table, processor, **{**extraction, "num_copies": 0})
    kept = rows.select(list(found["number"])).remove_columns("target_audio")
    units = Dataset.from_dict(
        {"target_units": list(found["units"])}, features=Features({"target_units": List(Value("int32"))})
    )
    return kept.add_column("target_units", list(units["target_units"]), feature=units.features["target_units"]), [
        *skips
    ]
