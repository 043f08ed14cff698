"""A declared data set as cells use it: rows with units of a base, folds, classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from datasets import Dataset

from ..core.digest import sha256_of_json
from ..core.errors import ConfigurationError
from ..data.extraction import SkippedItem
from ..data.fingerprint import rows_fingerprint
from ..data.unit_identity import check_unit_identity, recorded_unit_fingerprint
from ..data.unit_splits import unit_rows, without_too_long
from ..tasks import Task, task_by_name, task_from_labels
from .bases import Base
from .datasets import DatasetSpec
from .methods import FoldRows
from .protocols import Fold, draw_shots, make_folds, with_validation
from .rows import read_rows

__all__ = ["OpenedDataset", "open_dataset"]


@dataclass(frozen=True)
class OpenedDataset:
    """A data set with units.

    Attributes:
        spec (`DatasetSpec`): its declaration.
        task (`Task`): its classes.
        rows (`Dataset`): rows with `units`, `label`, `speaker` and `item`.
        recordings (`Dataset | None`): the same rows with `audio`; `None` for data sets of units.
        folds (`tuple[Fold, ...]`): numbers of `rows`.
        skips (`tuple[SkippedItem, ...]`): rows that were left out.
        digest (`str`): SHA-256 of the rows.
    """

    spec: DatasetSpec
    task: Task
    rows: Dataset
    recordings: Dataset | None
    folds: tuple[Fold, ...]
    skips: tuple[SkippedItem, ...]
    digest: str

    def fold_digest(self, fold: Fold) -> str:
        """SHA-256 of the rows and of how this fold shares them out."""
        return sha256_of_json([self.digest, fold.train, fold.validation, fold.test, list(self.task.labels)])

    def fold_rows(self, fold: Fold, shots: int | None, seed: int) -> FoldRows:
        """The rows of a fold.

        Args:
            fold (`Fold`): of `folds`.
            shots (`int`, *optional*): training rows a class; all by default.
            seed (`int`): of the rows drawn.
        """
        train = fold.train if shots is None else draw_shots(fold.train, list(self.rows["label"]), shots, seed)
        sides = (train, fold.validation or None, fold.test)
        parts = [None if numbers is None else self.rows.select(numbers) for numbers in sides]
        recordings = None
        if self.recordings is not None:
            audio = [None if numbers is None else self.recordings.select(numbers) for numbers in sides]
            recordings = (_given(audio[0]), audio[1], _given(audio[2]))
        return FoldRows(self.task, _given(parts[0]), parts[1], _given(parts[2]), recordings)


def _given(rows: Dataset | None) -> Dataset:
    assert rows is not None
    return rows


def open_dataset(
    spec: DatasetSpec,
    data_root: Path | None,
    base: Base | None,
    *,
    cache_dir: Path,
    choose_epoch: bool = False,
    progress: bool = False,
) -> OpenedDataset:
    """Read a data set, make its units, and share its rows out.

    Folds are those of the declared rows; a recording that cannot be used is then left out of its fold, so that
    folds do not depend on the base.

    Args:
        spec (`DatasetSpec`): what to read.
        data_root (`Path`, *optional*): the folder that holds data sets.
        base (`Base`, *optional*): makes the units of recordings; needed for them alone.
        cache_dir (`Path`): of units.
        choose_epoch (`bool`, defaults to `False`): take validation rows out of the training rows where there are none.
        progress (`bool`, defaults to `False`): a bar on stderr.

    Raises:
        DatasetError: it cannot be read or shared out.
        ConfigurationError: recordings without a processor.
        FingerprintMismatchError: units of another encoder than the base's.
    """
    declared = read_rows(spec, data_root)
    folds = make_folds(spec.protocol, declared)
    if choose_epoch:
        folds = tuple(with_validation(fold, declared, spec.protocol) for fold in folds)
    task = replace(task_by_name(spec.task) if spec.task else task_from_labels(declared["label"]), name=spec.name)
    if spec.metric == "macro_f1":
        task = replace(task, metric="macro_f1")
    for label in sorted(set(declared["label"])):
        task.index_of(label)
    if spec.metric == "equal_error_rate" and task.num_labels != 2:
        raise ConfigurationError(
            f"the metric of {spec.name} is equal_error_rate and it has {task.num_labels} classes",
            hint="accuracy or macro_f1",
        )
    has_audio = "audio" in declared.column_names
    if has_audio and base is None:
        raise ConfigurationError(
            f"the data set {spec.name} holds recordings and no base is named {spec.base}",
            hint=f"give {spec.base}=FOLDER in bases (--base)",
        )
    if not has_audio and base is not None and spec.folder is not None and data_root is not None:
        check_unit_identity(recorded_unit_fingerprint(data_root / spec.folder), base.units, spec.name)
    declared = declared.add_column("row", list(range(len(declared))))
    rows, skips = unit_rows(declared, base.processor if base else None, cache_dir=cache_dir, progress=progress)
    skips = list(skips)
    if base is not None:
        rows, too_long = without_too_long(rows, base.max_units)
        skips += too_long
    place = {row: number for number, row in enumerate(rows["row"])}
    kept = [column for column in ("units", "label", "speaker", "item", "content") if column in rows.column_names]
    return OpenedDataset(
        spec=spec,
        task=task,
        rows=rows.select_columns(kept),
        recordings=declared.select(list(place)).select_columns(["audio", "label", "item"]) if has_audio else None,
        folds=tuple(_renumbered(fold, place) for fold in folds),
        skips=tuple(skips),
        digest=sha256_of_json([rows_fingerprint(rows), None if base is None or not has_audio else base.units]),
    )


def _renumbered(fold: Fold, place: Mapping[int, int]) -> Fold:
    """Numbers of the rows that are left."""
    sides = (fold.train, fold.validation, fold.test)
    return Fold(fold.name, *(tuple(place[row] for row in side if row in place) for side in sides))
