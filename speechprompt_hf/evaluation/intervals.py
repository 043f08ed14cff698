"""How sure an accuracy or another score is: bootstrap intervals over the test's speakers, or its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, bootstrap

from ..core.errors import ConfigurationError

__all__ = ["MIN_SPEAKERS", "Interval", "accuracy_interval", "statistics_interval"]

MIN_SPEAKERS = 8
"""From this many speakers on, speakers are drawn instead of rows: of fewer, a bootstrap says nothing."""


@dataclass(frozen=True)
class Interval:
    """A confidence interval.

    Attributes:
        low (`float`): lower end.
        high (`float`): upper end.
        confidence (`float`): for example 0.95.
        over (`str`): what was drawn anew: `"speakers"` or `"rows"`.
        method (`str`): `"bootstrap percentile"`, or `"exact binomial"` where all rows are right or all are wrong.
    """

    low: float
    high: float
    confidence: float
    over: str
    method: str


def accuracy_interval(
    correct: ArrayLike,
    speakers: Sequence[str | None] | None = None,
    *,
    confidence: float = 0.95,
    num_resamples: int = 9999,
    seed: int = 0,
) -> Interval:
    """Confidence interval of the accuracy on a test set.

    Rows of one speaker succeed or fail together, so an interval over rows is too narrow for "unseen speakers". Where
    every row has a speaker and there are at least `MIN_SPEAKERS`, whole speakers are drawn anew; otherwise rows. If
    every row is right (or wrong), all bootstrap samples are equal; then it is the exact binomial interval over rows.

    Args:
        correct (`ArrayLike` of length R, bool): whether each row was classified right.
        speakers (`Sequence[str]` of length R, *optional*): speaker of each row.
        confidence (`float`, defaults to 0.95): probability that the interval holds the true accuracy.
        num_resamples (`int`, defaults to 9999): bootstrap samples.
        seed (`int`, defaults to 0): of the samples.

    Returns:
        `Interval`.

    Raises:
        ConfigurationError: there is no row.
    """
    hits = np.asarray(correct, dtype=np.float64)
    if hits.size == 0:
        raise ConfigurationError("an accuracy of no rows has no interval")
    if hits.min() == hits.max():
        exact = binomtest(int(hits.sum()), hits.size).proportion_ci(confidence_level=confidence, method="exact")
        return Interval(float(exact.low), float(exact.high), confidence, "rows", "exact binomial")
    by_speaker = _draws_speakers(speakers)
    if by_speaker:
        _, index = np.unique(np.asarray(speakers), return_inverse=True)
        data: tuple[NDArray[Any], ...] = (np.bincount(index, hits), np.bincount(index, np.ones_like(hits)))
    else:
        data = (hits, np.ones_like(hits))
    result = bootstrap(
        data,
        _ratio,
        paired=True,
        vectorized=True,
        n_resamples=num_resamples,
        # Bounds the memory of one batch of samples.
        batch=max(1, 2_000_000 // len(data[0])),
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = result.confidence_interval
    return Interval(float(low), float(high), confidence, "speakers" if by_speaker else "rows", "bootstrap percentile")


def statistics_interval(
    statistics: ArrayLike,
    score: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    speakers: Sequence[str | None] | None = None,
    *,
    confidence: float = 0.95,
    num_resamples: int = 1999,
    seed: int = 0,
) -> Interval:
    """Confidence interval of a score that is made of sums over the test set, such as an error rate or BLEU.

    Whole speakers are drawn anew where every row has one and there are at least `MIN_SPEAKERS`, otherwise rows.

    Args:
        statistics (`ArrayLike` of shape `(R, S)`): what each row contributes to the sums.
        score (`Callable`): sums `(T, S)` → scores `(T,)`.
        speakers (`Sequence[str]` of length R, *optional*): speaker of each row.
        confidence (`float`, defaults to 0.95): probability that the interval holds the true score.
        num_resamples (`int`, defaults to 1999): bootstrap samples T.
        seed (`int`, defaults to 0): of the samples.

    Returns:
        `Interval`: of no width where all samples are equal, as with one row.

    Raises:
        ConfigurationError: there is no row.
    """
    sums = np.asarray(statistics, dtype=np.float64)
    if not len(sums):
        raise ConfigurationError("a score of no rows has no interval")
    by_speaker = _draws_speakers(speakers)
    if by_speaker:
        names, index = np.unique(np.asarray(speakers), return_inverse=True)
        grouped = np.zeros((len(names), sums.shape[1]))
        np.add.at(grouped, index, sums)
        sums = grouped
    generator = np.random.default_rng(seed)
    # How often each row, or speaker, is drawn.
    counts = generator.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=num_resamples)
    ends = np.quantile(score(counts @ sums), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(
        float(ends[0]), float(ends[1]), confidence, "speakers" if by_speaker else "rows", "bootstrap percentile"
    )


def _draws_speakers(speakers: Sequence[str | None] | None) -> bool:
    return speakers is not None and None not in set(speakers) and len(set(speakers)) >= MIN_SPEAKERS


def _ratio(hits: NDArray[np.float64], counts: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    return hits.sum(axis=axis) / counts.sum(axis=axis)
