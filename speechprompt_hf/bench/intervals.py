"""Intervals of means over answers, of which those of one speaker or one recording are drawn together."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from ..evaluation.intervals import MIN_SPEAKERS

__all__ = ["answer_groups", "bootstrap_interval", "share_interval"]

_RESAMPLES = 2000
_CONFIDENCE = 0.95


def answer_groups(speakers: Sequence[str | None], otherwise: Sequence[Hashable]) -> tuple[NDArray[np.int64], bool]:
    """Number of the group that each answer is drawn with: its speaker where enough are known.

    Args:
        speakers (`Sequence[str | None]` of length R): who is asked; `None` where that is not known.
        otherwise (`Sequence[Hashable]` of length R): the group of an answer without a speaker, and of all answers
            where fewer than `MIN_SPEAKERS` speakers are known.

    Returns:
        `tuple[ndarray, bool]`: int64 of shape `(R,)`, from 0 on; and whether speakers are drawn.
    """
    by_speaker = len(set(speakers) - {None}) >= MIN_SPEAKERS
    names = [
        ("speaker", name) if by_speaker and name is not None else ("other", other)
        for name, other in zip(speakers, otherwise, strict=True)
    ]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names]), by_speaker


def share_interval(values: NDArray[np.float64], groups: NDArray[np.int64]) -> tuple[float, float]:
    """95 % interval of a mean of shares; where all are 0 or all are 1 the exact binomial one, a draw a group.

    Args:
        values (`ndarray` of shape `(R,)`, float64): in [0, 1].
        groups (`ndarray` of shape `(R,)`, int64): of `answer_groups`.
    """
    if values.min() == values.max() and values[0] in (0.0, 1.0):
        # Every sample would be the same. Answers of one group tell no more than one of them, at worst.
        num_groups = len(np.unique(groups))
        exact = binomtest(int(values[0]) * num_groups, num_groups).proportion_ci(_CONFIDENCE, method="exact")
        return float(exact.low), float(exact.high)
    return bootstrap_interval(values, groups)


def bootstrap_interval(values: NDArray[np.float64], groups: NDArray[np.int64]) -> tuple[float, float]:
    """95 % percentile interval of a mean, whole groups drawn anew.

    Args:
        values (`ndarray` of shape `(R,)`, float64): any numbers.
        groups (`ndarray` of shape `(R,)`, int64): of `answer_groups`.
    """
    sums, counts = np.bincount(groups, values), np.bincount(groups)
    generator = np.random.default_rng(0)
    means = []
    batch = max(1, 2_000_000 // len(sums))
    for start in range(0, _RESAMPLES, batch):
        drawn = generator.integers(0, len(sums), (min(batch, _RESAMPLES - start), len(sums)))
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    tail = 50 * (1 - _CONFIDENCE)
    low, high = np.percentile(np.concatenate(means), [tail, 100 - tail])
    return float(low), float(high)
