"""Taking a validation or test part out of rows: speakers apart where they are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DatasetError

__all__ = ["Carved", "carve"]

_TRIALS = 200


@dataclass(frozen=True)
class Carved:
    """Row numbers of the two parts.

    Attributes:
        rest (`NDArray[int64]`): rows that stay, ascending.
        part (`NDArray[int64]`): rows taken out, ascending.
        speakers_apart (`bool`): whether no speaker is on both sides.
    """

    rest: NDArray[np.int64]
    part: NDArray[np.int64]
    speakers_apart: bool


def carve(labels: Sequence[str], speakers: Sequence[str | None] | None, fraction: float, seed: int) -> Carved:
    """Take about `fraction` of the rows out, so that every label also stays.

    With at least two speakers whole speakers are taken out: of many seeded draws the one whose size and label
    distribution come nearest. Otherwise rows are drawn label by label.

    Args:
        labels (`Sequence[str]` of length R): label of each row.
        speakers (`Sequence[str]` of length R, *optional*): speaker of each row; used only if none is missing.
        fraction (`float`): wanted share, between 0 and 1.
        seed (`int`): the same seed gives the same parts.

    Returns:
        `Carved`: both parts, neither empty.

    Raises:
        DatasetError: the fraction is impossible, there are too few rows, or a label is spoken by one speaker only, so
            that speakers cannot be kept apart.
    """
    if not 0 < fraction < 1:
        raise DatasetError(f"a split fraction of {fraction} is impossible", hint="between 0 and 1, for example 0.15")
    if speakers is not None and None not in speakers and len(set(speakers)) > 1:
        part = _draw_speakers(labels, np.asarray(speakers), fraction, seed)
        apart = True
    else:
        part = _draw_rows(labels, fraction, seed)
        apart = False
    mask = np.zeros(len(labels), dtype=bool)
    mask[part] = True
    if not mask.any() or mask.all():
        raise DatasetError(
            f"{len(labels)} rows are too few to take a part of {fraction:g} out",
            hint="record more, or give the splits yourself under train/, validation/ and test/",
        )
    return Carved(np.flatnonzero(~mask), np.flatnonzero(mask), apart)


def _draw_rows(labels: Sequence[str], fraction: float, seed: int) -> NDArray[np.int64]:
    generator = np.random.default_rng(seed)
    array = np.asarray(labels)
    chosen = []
    for label in sorted(set(labels)):
        rows = generator.permutation(np.flatnonzero(array == label))
        count = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
        chosen.append(rows[:count])
    return np.concatenate(chosen)


def _draw_speakers(labels: Sequence[str], speakers: NDArray[np.str_], fraction: float, seed: int) -> NDArray[np.int64]:
    names, speaker_of = np.unique(speakers, return_inverse=True)
    classes, class_of = np.unique(np.asarray(labels), return_inverse=True)
    counts = np.zeros((len(names), len(classes)), dtype=np.int64)
    np.add.at(counts, (speaker_of, class_of), 1)
    totals = counts.sum(axis=0)
    generator = np.random.default_rng(seed)
    best: tuple[float, NDArray[np.int64]] | None = None
    for _ in range(_TRIALS):
        order = generator.permutation(len(names))
        sizes = counts[order].sum(axis=1).cumsum()
        # At least one speaker on each side.
        number = int(np.abs(sizes[:-1] - fraction * len(labels)).argmin()) + 1
        taken = counts[order[:number]].sum(axis=0)
        if ((totals - taken) == 0).any():
            continue
        distance = float(np.abs(taken / taken.sum() - totals / totals.sum()).sum())
        distance += abs(taken.sum() / len(labels) - fraction) + float((taken == 0).mean())
        if best is None or distance < best[0]:
            best = (distance, order[:number])
    if best is None:
        single = Counter({str(classes[column]): int((counts[:, column] > 0).sum()) for column in range(len(classes))})
        alone = sorted(label for label, number in single.items() if number == 1) or [single.most_common()[-1][0]]
        raise DatasetError(
            f"speakers cannot be kept apart: label(s) {', '.join(map(repr, alone[:5]))} come from too few of the "
            f"{len(names)} speakers",
            hint="leave these labels out, record more speakers, or turn the speaker column off",
        )
    return np.flatnonzero(np.isin(speaker_of, best[1]))
