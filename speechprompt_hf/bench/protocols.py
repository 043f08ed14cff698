"""Sharing rows out: folds that test every row once, speakers apart; few rows of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, StratifiedKFold

from ..core.errors import DatasetError
from ..data.splits import carve
from .datasets import Protocol

__all__ = ["Fold", "draw_shots", "make_folds", "with_validation"]

FOLD_SEED = 0
"""The folds are part of the protocol, so that seeds of training do not change them."""


@dataclass(frozen=True)
class Fold:
    """Row numbers of one fold, ascending.

    Attributes:
        name (`str`): for tables and files.
        train (`tuple[int, ...]`): rows that train.
        validation (`tuple[int, ...]`): rows that may choose the epoch; none where the data set has no such part.
        test (`tuple[int, ...]`): rows that are measured.
    """

    name: str
    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


def make_folds(protocol: Protocol, rows: Dataset) -> tuple[Fold, ...]:
    """The folds of a data set.

    Args:
        protocol (`Protocol`): how to share out.
        rows (`Dataset`): R rows with `label`, `speaker`, `part` and the protocol's columns.

    Returns:
        `tuple[Fold, ...]`: of `"grouped"` and `"stratified"` every row is in the test of exactly one fold; of
        `"grouped"` and `"held-out"` no group is on both sides.

    Raises:
        DatasetError: too few groups or rows, a held-out group that does not exist, or an empty side.
    """
    folds = _FOLDS[protocol.kind](protocol, rows)
    labels = list(rows["label"])
    for fold in folds:
        for side, numbers in (("training", fold.train), ("test", fold.test)):
            if not numbers:
                raise DatasetError(f"the {side} rows of fold {fold.name} are none", hint="check the protocol")
        if len({labels[row] for row in fold.train}) < 2:
            raise DatasetError(f"the training rows of fold {fold.name} have one label", hint="check the protocol")
    return folds


def _official(protocol: Protocol, rows: Dataset) -> tuple[Fold, ...]:
    parts = np.asarray(rows["part"])
    validation = [] if "validation" in (*protocol.train, *protocol.test) else ["validation"]
    sides = (list(protocol.train), validation, list(protocol.test))
    return (Fold("official", *(_numbers(np.isin(parts, side)) for side in sides)),)


def _column(protocol: Protocol, rows: Dataset) -> tuple[Fold, ...]:
    test = np.isin(np.asarray([str(value) for value in rows[protocol.column]]), list(protocol.values[0]))
    return (Fold(str(protocol.column), _numbers(~test), (), _numbers(test)),)


def _held_out(protocol: Protocol, rows: Dataset) -> tuple[Fold, ...]:
    groups = np.asarray(_groups(protocol, rows))
    folds = []
    for values in protocol.values:
        unknown = sorted(set(values) - set(groups.tolist()))
        if unknown:
            raise DatasetError(
                f"there is no {protocol.group} {unknown[0]!r} to hold out", hint=f"there are {_some(groups)}"
            )
        test = np.isin(groups, list(values))
        folds.append(Fold("+".join(values), _numbers(~test), (), _numbers(test)))
    return tuple(folds)


def _grouped(protocol: Protocol, rows: Dataset) -> tuple[Fold, ...]:
    groups = _groups(protocol, rows)
    if len(set(groups)) < protocol.folds:
        raise DatasetError(
            f"{len(set(groups))} values of {protocol.group} for {protocol.folds} folds", hint="ask for fewer folds"
        )
    splitter = GroupKFold(protocol.folds, shuffle=True, random_state=FOLD_SEED)
    return _numbered(splitter.split(groups, groups=groups))


def _stratified(protocol: Protocol, rows: Dataset) -> tuple[Fold, ...]:
    labels = list(rows["label"])
    fewest = min(labels.count(label) for label in set(labels))
    if fewest < protocol.folds:
        raise DatasetError(f"a label has {fewest} rows for {protocol.folds} folds", hint="ask for fewer folds")
    splitter = StratifiedKFold(protocol.folds, shuffle=True, random_state=FOLD_SEED)
    return _numbered(splitter.split(labels, labels))


_FOLDS = {
    "official": _official,
    "column": _column,
    "held-out": _held_out,
    "grouped": _grouped,
    "stratified": _stratified,
}


def _groups(protocol: Protocol, rows: Dataset) -> list[str]:
    """The group of each row; a row without one is alone."""
    values = list(rows[protocol.group])
    return [f"row {row}" if value is None else str(value) for row, value in enumerate(values)]


def _numbered(splits: object) -> tuple[Fold, ...]:
    pairs: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]] = list(splits)  # type: ignore[call-overload]
    return tuple(
        Fold(f"fold {number}", tuple(train.tolist()), (), tuple(test.tolist()))
        for number, (train, test) in enumerate(pairs, start=1)
    )


def _numbers(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(np.flatnonzero(mask).tolist())


def _some(values: NDArray[np.str_]) -> str:
    return ", ".join(sorted(set(values.tolist()))[:10])


def with_validation(fold: Fold, rows: Dataset, protocol: Protocol, fraction: float = 0.15) -> Fold:
    """The same fold with validation rows: those it has, else some of the training rows.

    They are whole groups where the protocol is `"grouped"` or `"held-out"`, else whole speakers where all are known.
    Where the speaker is the label, and cannot be kept apart, rows are drawn label by label.

    Args:
        fold (`Fold`): of `rows`.
        rows (`Dataset`): rows with `label`, `speaker` and the protocol's columns.
        protocol (`Protocol`): that made the fold.
        fraction (`float`, defaults to 0.15): share of the training rows.

    Raises:
        DatasetError: groups or speakers cannot be kept apart, or there are too few rows.
    """
    if fold.validation:
        return fold
    train = np.asarray(fold.train)
    given = rows.select(fold.train)
    labels, speakers = list(given["label"]), list(given["speaker"])
    name, groups = "speaker", speakers
    if protocol.kind in ("grouped", "held-out"):
        name, groups = protocol.group, list(_groups(protocol, given))
    told = labels == speakers
    # Of groups of one row each, and of speakers that are the labels, there is nothing to keep apart.
    by_rows = len(set(groups)) == len(groups) or (told and name == "speaker")
    try:
        carved = carve(labels, None if by_rows else groups, fraction, FOLD_SEED)
    except DatasetError as error:
        if by_rows:
            raise
        if not told:
            reason = _too_few(labels, groups)
            raise DatasetError(
                f"the training rows of fold {fold.name} give no validation rows of another {name}: {reason}",
                hint="fewer folds, or selection: last",
            ) from error
        carved = carve(labels, None, fraction, FOLD_SEED)
    return Fold(fold.name, tuple(train[carved.rest].tolist()), tuple(train[carved.part].tolist()), fold.test)


def _too_few(labels: Sequence[str], groups: Sequence[str | None]) -> str:
    """Which labels keep groups from being parted."""
    groups_of: dict[str, set[str | None]] = {}
    for label, group in zip(labels, groups, strict=True):
        groups_of.setdefault(label, set()).add(group)
    fewest = min(map(len, groups_of.values()))
    few = sorted(label for label, found in groups_of.items() if len(found) == fewest)
    return f"label(s) {', '.join(map(repr, few[:5]))} come from {fewest} of {len(set(groups))}"


def draw_shots(train: Sequence[int], labels: Sequence[str], shots: int, seed: int) -> tuple[int, ...]:
    """A few training rows of each class; a draw of more shots holds those of fewer with the same seed.

    Args:
        train (`Sequence[int]`): rows to draw from.
        labels (`Sequence[str]`): label of every row of the data set.
        shots (`int`): rows a class; a class that has fewer gives all.
        seed (`int`): of the draw.

    Returns:
        `tuple[int, ...]`: ascending.
    """
    order = np.random.default_rng(seed).permutation(np.asarray(sorted(train)))
    taken: dict[str, int] = {}
    chosen = []
    for row in order.tolist():
        if taken.setdefault(labels[row], 0) < shots:
            taken[labels[row]] += 1
            chosen.append(row)
    return tuple(sorted(chosen))
