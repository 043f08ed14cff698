"""`load_splits`: any labelled data set as train, validation and test with the same columns."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset

from ..core.errors import DatasetError
from .columns import unify
from .sources import read_source
from .splits import carve
from .unit_identity import recorded_unit_fingerprint

__all__ = ["Splits", "load_rows", "load_splits", "make_splits", "one_part"]


@dataclass(frozen=True)
class Splits:
    """Three parts of a data set.

    Every part has the columns `audio` (bytes, a path or `{"bytes", "path"}`, undecoded) or `units` (list of int),
    `label` (str), `speaker` (str or null) and `item` (str, what errors call the row).

    Attributes:
        train (`Dataset`): for training.
        validation (`Dataset`): for choosing the epoch.
        test (`Dataset`): looked at once.
        speakers_apart (`bool | None`): whether the parts share no speaker; `None` where speakers are unknown.
        notes (`tuple[str, ...]`): what a reader of the result should know: how missing parts were made.
        unit_fingerprint (`dict | None`): of the encoder that made the units, where `units.json` beside them says it.
        options (`dict | None`): the arguments of `load_splits` that shape the parts; given again, they make the same.
        carved (`tuple[str, ...]`): the parts that the data set lacked and that were taken out of its rows.
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    speakers_apart: bool | None = None
    notes: tuple[str, ...] = ()
    unit_fingerprint: dict[str, Any] | None = None
    options: dict[str, Any] | None = None
    carved: tuple[str, ...] = ()

    @property
    def kind(self) -> Literal["audio", "units"]:
        """What the rows hold."""
        return "units" if "units" in self.train.column_names else "audio"

    @property
    def labels(self) -> tuple[str, ...]:
        """The distinct labels of the training part, sorted."""
        return tuple(sorted(set(self.train["label"])))

    def items(self) -> Iterator[tuple[str, Dataset]]:
        """Name and rows of each part."""
        yield "train", self.train
        yield "validation", self.validation
        yield "test", self.test

    def map_parts(self, function: Callable[[str, Dataset], Dataset]) -> Splits:
        """The same splits with every part replaced by `function(name, part)`."""
        parts = {name: function(name, part) for name, part in self.items()}
        return replace(self, **parts)

    def with_notes(self, notes: Iterable[str]) -> Splits:
        """The same splits with further notes before their own."""
        return replace(self, notes=(*notes, *self.notes))


def load_splits(
    source: str | os.PathLike[str],
    *,
    label_column: str | Sequence[str] | None = None,
    speaker_column: str | None = None,
    validation_fraction: float = 0.15,
    test_fraction: float = 0.2,
    seed: int = 0,
    config_name: str | None = None,
    revision: str | None = None,
) -> Splits:
    """Read a labelled data set and make the parts that it lacks.

    Args:
        source (`str | PathLike`): a folder with one sub-folder of recordings a label, optionally under `train/`,
            `validation/`, `test/`; a folder with `metadata.csv` or `metadata.jsonl` (`file_name`, label, optionally
            speaker and split); Parquet of audio (bytes or `Audio`) or of units (column `units`: lists of integers or
            text such as "71 12 56", merged or one a frame); or a Hub id.
        label_column (`str | Sequence[str]`, *optional*): column of the label, `label` by default; the values of
            several columns are joined by a blank.
        speaker_column (`str`, *optional*): column of the speaker; by default `speaker` or `speaker_id` if there is
            one; `""` ignores it. With speakers the parts that are made share none.
        validation_fraction (`float`, defaults to 0.15): share of the training rows for validation, if it is missing.
        test_fraction (`float`, defaults to 0.2): share of the rows for the test, if it is missing.
        seed (`int`, defaults to 0): of the parts that are made.
        config_name (`str`, *optional*): configuration of a Hub data set.
        revision (`str`, *optional*): revision of a Hub data set.

    Returns:
        `Splits`: neither part empty, every label of validation and test known in training.

    Raises:
        DatasetError: nothing to read, an unknown column, a row without label, one label only, an empty part, or a
            label that training lacks.
        UnitError: units that are neither integers nor text of integers.
    """

    def unify_part(table: Dataset, name: str, root: Path | None) -> Dataset:
        return unify(table, name, root, label_column, speaker_column)

    options = {
        "label_column": label_column if label_column is None or isinstance(label_column, str) else list(label_column),
        "speaker_column": speaker_column,
        "validation_fraction": validation_fraction,
        "test_fraction": test_fraction,
        "seed": seed,
        "config_name": config_name,
        "revision": revision,
    }
    splits = make_splits(source, unify_part, options, check_training=_check_classes)
    _check_labels(dict(splits.items()))
    return splits


def make_splits(
    source: str | os.PathLike[str],
    unify_part: Callable[[Dataset, str, Path | None], Dataset],
    options: dict[str, Any],
    *,
    check_training: Callable[[Dataset], None] | None = None,
    strata: Callable[[Dataset], Sequence[str]] = lambda rows: list(rows["label"]),
    measured: str = "accuracy",
) -> Splits:
    """Read a data set and make the parts that it lacks, whatever its labels are.

    Args:
        source (`str | PathLike`): see `load_splits`.
        unify_part (`Callable`): a table, the name of its part and where its paths start → the columns of `Splits`.
        options (`dict`): the arguments that shape the parts: `validation_fraction`, `test_fraction`, `seed`,
            `config_name`, `revision`, and further ones; they are recorded.
        check_training (`Callable`, *optional*): refuses training rows, before parts are taken out of them.
        strata (`Callable`, *optional*): training rows → a class a row, of which each part gets its share.
        measured (`str`, defaults to `"accuracy"`): what notes call the result.

    Returns:
        `Splits`.

    Raises:
        DatasetError: nothing to read, no part to train on, or an empty part.
    """
    name = os.fspath(source)
    tables, root, left_out = read_source(source, config_name=options["config_name"], revision=options["revision"])
    parts = {part: unify_part(table, part, root) for part, table in tables.items()}
    notes = list(left_out)
    if "train" not in parts and len(parts) > 1:
        raise DatasetError(f"{name!r} has the parts {', '.join(parts)} and none to train on", hint="add a part train")
    if "train" not in parts:
        (only,) = parts
        parts = {"train": parts[only]}
        if only != "pool":
            notes.append(f"the data set has the part {only} alone: training and validation rows are taken from it too")
    for part, rows in parts.items():
        if not len(rows):
            raise DatasetError(f"the {part} part of {name!r} is empty")
    if check_training is not None:
        check_training(parts["train"])
    # Test first: validation is then taken from what trains.
    carved = tuple(part for part in ("validation", "test") if part not in parts)
    for offset, part in enumerate(("test", "validation")):
        if part in carved:
            fraction, seed = options[f"{part}_fraction"], options["seed"] + offset
            rows = parts["train"]
            parts["train"], parts[part] = _carve_part(rows, part, strata(rows), fraction, seed, notes, measured)
    apart = _speakers_apart(parts)
    if apart is False and not carved:
        notes.append(f"speakers occur in more than one of the given parts: {measured} on new speakers may be lower")
    has_units = "units" in parts["train"].column_names
    return Splits(
        **parts,
        speakers_apart=apart,
        notes=tuple(notes),
        unit_fingerprint=recorded_unit_fingerprint(source) if has_units else None,
        options=options,
        carved=carved,
    )


def _check_classes(train: Dataset) -> None:
    if len(set(train["label"])) < 2:
        raise DatasetError(
            f"all {len(train)} training rows have the one label {train[0]['label']!r}",
            hint="a classifier needs at least two labels",
        )


def load_rows(
    source: str | os.PathLike[str],
    *,
    split: str = "test",
    label_column: str | Sequence[str] | None = None,
    speaker_column: str | None = None,
    config_name: str | None = None,
    revision: str | None = None,
) -> Dataset:
    """One part of a labelled data set, or all of a data set without parts, with the columns of `Splits`.

    Args:
        source (`str | PathLike`): as for `load_splits`.
        split (`str`, defaults to `"test"`): the wanted part; `"train"` and `"test"` of a data set without parts are
            all of it.
        label_column (`str | Sequence[str]`, *optional*): as for `load_splits`.
        speaker_column (`str`, *optional*): as for `load_splits`.
        config_name (`str`, *optional*): configuration of a Hub data set.
        revision (`str`, *optional*): revision of a Hub data set.

    Raises:
        DatasetError: as for `load_splits`, or there is no such part.
    """
    return one_part(
        source,
        split,
        lambda table, name, root: unify(table, name, root, label_column, speaker_column),
        config_name=config_name,
        revision=revision,
    )


def one_part(
    source: str | os.PathLike[str],
    split: str,
    unify_part: Callable[[Dataset, str, Path | None], Dataset],
    *,
    config_name: str | None = None,
    revision: str | None = None,
) -> Dataset:
    """One part of a data set, or all of a data set without parts, whatever its labels are.

    Args:
        source (`str | PathLike`): as for `load_splits`.
        split (`str`): the wanted part; see `load_rows`.
        unify_part (`Callable`): as for `make_splits`.
        config_name (`str`, *optional*): configuration of a Hub data set.
        revision (`str`, *optional*): revision of a Hub data set.

    Raises:
        DatasetError: there is no such part, or it is empty.
    """
    tables, root, _ = read_source(source, config_name=config_name, revision=revision)
    if "pool" not in tables and split not in tables:
        raise DatasetError(f"{os.fspath(source)!r} has no part {split!r}", hint=f"it has {', '.join(tables)}")
    if "pool" in tables and split not in (*tables, "train", "test"):
        raise DatasetError(
            f"{os.fspath(source)!r} has no part {split!r}", hint="it has no parts: leave the part out, or make folders"
        )
    name = split if split in tables else "pool"
    rows = unify_part(tables[name], name, root)
    if not len(rows):
        raise DatasetError(f"the {name} part of {os.fspath(source)!r} is empty")
    return rows


def _carve_part(
    train: Dataset, name: str, strata: Sequence[str], fraction: float, seed: int, notes: list[str], measured: str
) -> tuple[Dataset, Dataset]:
    speakers = train["speaker"]
    carved = carve(strata, list(speakers), fraction, seed)
    if carved.speakers_apart:
        notes.append(f"{name} was taken from the training rows by seed {seed}: speakers that training does not have")
    else:
        why = "there is one speaker" if len({*speakers}) == 1 and None not in {*speakers} else "speakers are unknown"
        notes.append(
            f"{name} was taken at random from the training rows by seed {seed} because {why}: "
            f"the same speakers may be on both sides, so {measured} on new speakers may be lower"
        )
    return train.select(carved.rest), train.select(carved.part)


def _check_labels(parts: dict[str, Dataset]) -> None:
    known = set(parts["train"]["label"])
    for name in ("validation", "test"):
        unseen = sorted(set(parts[name]["label"]) - known)
        if unseen:
            raise DatasetError(
                f"label(s) {', '.join(map(repr, unseen[:5]))} of the {name} part do not occur in training",
                hint="every label needs training rows",
            )


def _speakers_apart(parts: dict[str, Dataset]) -> bool | None:
    speakers = [set(part["speaker"]) for part in parts.values()]
    if any(None in names for names in speakers):
        return None
    return sum(map(len, speakers)) == len(set().union(*speakers))
