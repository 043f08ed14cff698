"""Whether a saliency says what the model does: what the label's probability is as units are taken out or put in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.errors import ConfigurationError
from .scoring import UnitScorer

__all__ = ["FRACTIONS", "FallRatio", "RemovalCurves", "fall_ratio", "kept_along", "num_removed", "removal_curves"]

FRACTIONS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True, eq=False)
class RemovalCurves:
    """The probability of a label as the units of an utterance go, or come.

    Attributes:
        fractions (`NDArray[float64]` of shape `(F,)`): shares of the units, from 0 to 1.
        deletion (`NDArray[float64]` of shape `(F,)`): when so many of the most salient units are taken out.
        insertion (`NDArray[float64]` of shape `(F,)`): when so many of the most salient units are all there is.
        random_deletion (`NDArray[float64]` of shape `(F,)`): as `deletion`, mean over random orders.
        random_insertion (`NDArray[float64]` of shape `(F,)`): as `insertion`, mean over random orders.
    """

    fractions: NDArray[np.float64]
    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]
    random_deletion: NDArray[np.float64]
    random_insertion: NDArray[np.float64]

    def falls(self, fraction: float = 0.2) -> tuple[float, float]:
        """By how much the probability falls when a share of the units is taken out: the most salient, random ones.

        Raises:
            ConfigurationError: the curves have no such fraction.
        """
        place = np.flatnonzero(np.isclose(self.fractions, fraction))
        if not len(place):
            raise ConfigurationError(f"the curves have no fraction {fraction}", hint=f"one of {self.fractions}")
        at = int(place[0])
        return float(self.deletion[0] - self.deletion[at]), float(self.deletion[0] - self.random_deletion[at])

    @property
    def areas(self) -> dict[str, float]:
        """The area under each curve: low is good of deletion, high is good of insertion."""
        names = ("deletion", "insertion", "random_deletion", "random_insertion")
        return {name: float(np.trapezoid(getattr(self, name), self.fractions)) for name in names}


@dataclass(frozen=True)
class FallRatio:
    """How many times more the probability falls without salient units than without random ones.

    Attributes:
        ratio (`float`): mean fall without salient units, divided by the mean fall without random ones.
        low (`float`): the lower end of its interval.
        high (`float`): the upper end.
        salient (`float`): mean fall of the probability without salient units.
        random (`float`): without random ones.
        rows (`int`): utterances.
    """

    ratio: float
    low: float
    high: float
    salient: float
    random: float
    rows: int


def num_removed(num_units: int, fraction: float) -> int:
    """Units in a share of them: rounded to the nearest number, and at least one of a share above 0."""
    return 0 if fraction <= 0 or num_units == 0 else min(num_units, max(1, math.floor(fraction * num_units + 0.5)))


def kept_along(
    order: Sequence[int] | NDArray[np.integer], fractions: Sequence[float], *, insert: bool = False
) -> Tensor:
    """What is left of an utterance along an order of its units.

    Args:
        order (`Sequence[int]` of length T): all positions, the first to go (or to come) first.
        fractions (`Sequence[float]` of length F): shares of the units.
        insert (`bool`, defaults to `False`): the first so many are there, instead of missing.

    Returns:
        `BoolTensor` of shape `(F, T)`.
    """
    rank = np.empty(len(order), dtype=np.int64)
    rank[np.asarray(order, dtype=np.int64)] = np.arange(len(order))
    counts = np.array([num_removed(len(order), fraction) for fraction in fractions])
    is_first = torch.from_numpy(rank[None, :] < counts[:, None])
    return is_first if insert else ~is_first


def removal_curves(
    scorer: UnitScorer,
    class_index: int,
    saliency: NDArray[np.floating],
    *,
    fractions: Sequence[float] = FRACTIONS,
    num_random: int = 10,
    seed: int = 0,
) -> RemovalCurves:
    """Deletion and insertion curves of one utterance, against random orders.

    Args:
        scorer (`UnitScorer`): the model and the utterance of T units.
        class_index (`int`): whose probability is looked at.
        saliency (`NDArray[floating]` of shape `(T,)`): how much each unit speaks for the class.
        fractions (`Sequence[float]`, defaults to `FRACTIONS`): shares of the units, rising from 0.
        num_random (`int`, defaults to 10): random orders.
        seed (`int`, defaults to 0): of these.

    Returns:
        `RemovalCurves`.

    Raises:
        ConfigurationError: there is not one saliency a unit, or no random order.

    Source:
        Petsiuk, Das and Saenko 2018, RISE: deletion and insertion; here units leave the sequence.
    """
    if len(saliency) != scorer.num_units or num_random < 1:
        raise ConfigurationError(
            f"{scorer.num_units} units came with {len(saliency)} saliencies and {num_random} random orders",
            hint="one saliency a unit, at least one random order",
        )
    generator = np.random.default_rng(seed)
    salient = np.argsort(-np.asarray(saliency), kind="stable")
    orders = [salient, *(generator.permutation(scorer.num_units) for _ in range(num_random))]
    kept = torch.cat([kept_along(order, fractions, insert=insert) for insert in (False, True) for order in orders])
    probabilities = scorer.logits(kept).softmax(-1)[:, class_index].numpy()
    deletions, insertions = probabilities.reshape(2, len(orders), len(fractions))
    return RemovalCurves(
        np.asarray(fractions, dtype=np.float64),
        deletions[0],
        insertions[0],
        deletions[1:].mean(0),
        insertions[1:].mean(0),
    )


def fall_ratio(
    salient: Sequence[float], random: Sequence[float], *, confidence: float = 0.95, draws: int = 1999, seed: int = 0
) -> FallRatio:
    """The mean fall without salient units, in multiples of the mean fall without random ones.

    Args:
        salient (`Sequence[float]` of length R): falls of the probability, one an utterance.
        random (`Sequence[float]` of length R): of the same utterances.
        confidence (`float`, defaults to 0.95): of the interval, by bootstrap over utterances.
        draws (`int`, defaults to 1999): of the bootstrap.
        seed (`int`, defaults to 0): of these.

    Returns:
        `FallRatio`.

    Raises:
        ConfigurationError: there is no utterance, or not as many of one as of the other.
    """
    if not len(salient) or len(salient) != len(random):
        raise ConfigurationError(
            f"{len(salient)} falls without salient units and {len(random)} without random ones",
            hint="one of each for every utterance",
        )
    falls = np.stack([np.asarray(salient, dtype=np.float64), np.asarray(random, dtype=np.float64)], axis=1)
    num_rows = len(falls)
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(num_rows, np.full(num_rows, 1 / num_rows), size=draws)
    ratios = _ratios(counts @ falls)
    # Without interpolation: a fall of random units of zero makes infinite ratios.
    low, high = np.quantile(ratios, [(1 - confidence) / 2, (1 + confidence) / 2], method="nearest")
    means = falls.mean(0)
    return FallRatio(
        float(_ratios(means[None])[0]), float(low), float(high), float(means[0]), float(means[1]), num_rows
    )


def _ratios(falls: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ratios `(N,)` of falls `(N, 2)`; infinite where random units make none."""
    return np.divide(falls[:, 0], falls[:, 1], out=np.full(len(falls), np.inf), where=falls[:, 1] > 0)
