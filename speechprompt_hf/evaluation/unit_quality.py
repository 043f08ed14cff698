"""How good units and the features below them are: agreement with phones, and which of two words is a third one's."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from ..core.errors import DatasetError

__all__ = ["AbxResult", "PhoneAgreement", "abx_error", "cosine_costs", "dtw_distances", "phone_agreement"]

Frames = NDArray[np.float32]


@dataclass(frozen=True)
class PhoneAgreement:
    """What the units of frames say of their phones.

    Attributes:
        phone_purity (`float`): share of frames whose phone is the most frequent one of their unit.
        cluster_purity (`float`): share of frames whose unit is the most frequent one of their phone.
        pnmi (`float`): share of the phones' entropy that the units take away, 0 … 1.
        num_frames (`int`): frames counted.
    """

    phone_purity: float
    cluster_purity: float
    pnmi: float
    num_frames: int


def phone_agreement(units: Sequence[int], phones: Sequence[str]) -> PhoneAgreement:
    """Purities and phone-normalised mutual information of aligned frames.

    Args:
        units (`Sequence[int]` of length N): the unit of each frame, runs not merged.
        phones (`Sequence[str]` of length N): the phone of the same frame.

    Returns:
        `PhoneAgreement`.

    Raises:
        DatasetError: lengths differ, or fewer than two phones occur.

    Source:
        HuBERT (arXiv 2106.07447), section IV-C.
    """
    if len(units) != len(phones):
        raise DatasetError(f"{len(units)} units and {len(phones)} phones", hint="one of each a frame")
    if len(set(phones)) < 2:
        raise DatasetError(
            f"the phones of {len(phones)} frames are {sorted(set(phones))}", hint="at least two must occur"
        )
    counts = contingency_matrix(list(phones), list(units))
    shares = counts.sum(1) / counts.sum()
    entropy = float(-(shares * np.log(shares)).sum())
    return PhoneAgreement(
        phone_purity=float(counts.max(0).sum() / counts.sum()),
        cluster_purity=float(counts.max(1).sum() / counts.sum()),
        pnmi=min(1.0, float(mutual_info_score(None, None, contingency=counts)) / entropy),
        num_frames=len(phones),
    )


def cosine_costs(left: Frames, right: Frames) -> NDArray[np.float64]:
    """Angle between each two frames, over π.

    Args:
        left (`ndarray` of shape `(T, F)`, float32): frames.
        right (`ndarray` of shape `(S, F)`, float32): frames.

    Returns:
        `ndarray` of shape `(T, S)`, float64, in [0, 1].
    """
    first, second = (
        frames / np.maximum(np.linalg.norm(frames, axis=1, keepdims=True), 1e-12)
        for frames in (left.astype(np.float64), right.astype(np.float64))
    )
    return np.asarray(np.arccos(np.clip(first @ second.T, -1, 1)) / np.pi)


def dtw_distances(costs: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Mean cost along the cheapest path of dynamic time warping, of many pairs at once.

    A path goes from the first two frames to the last two and steps in one of them or in both; of equally cheap ones
    the shortest counts.

    Args:
        costs (`Sequence[ndarray]`): for each pair float64 of shape `(T, S)`, at least 1 × 1.

    Returns:
        `ndarray` of shape `(pairs,)`, float64.

    Raises:
        DatasetError: a pair without frames.
    """
    for number, cost in enumerate(costs):
        if cost.size == 0:
            raise DatasetError(f"pair {number} has {cost.shape[0]} and {cost.shape[1]} frames", hint="at least 1 each")
    if not costs:
        return np.zeros(0)
    height, width = max(cost.shape[0] for cost in costs), max(cost.shape[1] for cost in costs)
    padded = np.zeros((len(costs), height, width))
    for number, cost in enumerate(costs):
        padded[number, : cost.shape[0], : cost.shape[1]] = cost
    # Cost and length of the best path to each cell; the row and column of infinities are the border.
    total = np.full((len(costs), height + 1, width + 1), np.inf)
    length = np.zeros_like(total)
    total[:, 0, 0] = 0.0
    for row in range(1, height + 1):
        for column in range(1, width + 1):
            came_from = ((row - 1, column - 1), (row - 1, column), (row, column - 1))
            options = np.stack([total[:, i, j] for i, j in came_from])
            lengths = np.stack([length[:, i, j] for i, j in came_from])
            best = np.lexsort((lengths, options), axis=0)[:1]
            total[:, row, column] = np.take_along_axis(options, best, 0)[0] + padded[:, row - 1, column - 1]
            length[:, row, column] = np.take_along_axis(lengths, best, 0)[0] + 1
    ends = np.array([cost.shape for cost in costs])
    pairs = np.arange(len(costs))
    return np.asarray(total[pairs, ends[:, 0], ends[:, 1]] / length[pairs, ends[:, 0], ends[:, 1]])


@dataclass(frozen=True)
class AbxResult:
    """Of triples A, B, X: how often B was nearer to X than A.

    Attributes:
        error (`float`): share of triples, ties count half; 0.5 is chance.
        num_triples (`int`): triples drawn.
    """

    error: float
    num_triples: int


def abx_error(
    features: Sequence[Frames],
    words: Sequence[Hashable],
    speakers: Sequence[Hashable],
    *,
    num_triples: int = 2000,
    seed: int = 0,
    batch_size: int = 200,
) -> AbxResult:
    """Discrimination of words across speakers, without training: X is the word of A, said by somebody else.

    A and B are two words of one speaker. X is drawn first, then A, then B, each evenly from what makes a triple.

    Args:
        features (`Sequence[ndarray]`): for each of N recordings float32 of shape `(T, F)`.
        words (`Sequence` of length N): what is said.
        speakers (`Sequence` of length N): who says it.
        num_triples (`int`, defaults to 2000): triples.
        seed (`int`, defaults to 0): of the draws, which do not depend on the features.
        batch_size (`int`, defaults to 200): triples that are compared at once.

    Returns:
        `AbxResult`.

    Raises:
        DatasetError: no triple is possible.

    Source:
        Schatz et al. 2013, "Evaluating speech features with the minimal-pair ABX task"; here of words, distances by
        dynamic time warping over angles.
    """
    triples = _draw_triples(np.asarray(words, dtype=object), np.asarray(speakers, dtype=object), num_triples, seed)
    wrong = 0.0
    for start in range(0, len(triples), batch_size):
        batch = triples[start : start + batch_size]
        near, far = (
            dtw_distances([cosine_costs(features[row[which]], features[row[2]]) for row in batch]) for which in (0, 1)
        )
        wrong += float((near > far).sum() + 0.5 * (near == far).sum())
    return AbxResult(wrong / len(triples), len(triples))


def _draw_triples(
    words: NDArray[np.object_], speakers: NDArray[np.object_], count: int, seed: int
) -> list[tuple[int, int, int]]:
    generator = np.random.default_rng(seed)

    def partners(index: int) -> NDArray[np.int64]:
        return np.flatnonzero((words == words[index]) & (speakers != speakers[index]))

    def others(index: int) -> NDArray[np.int64]:
        return np.flatnonzero((words != words[index]) & (speakers == speakers[index]))

    with_others = np.array([len(others(index)) > 0 for index in range(len(words))], dtype=bool)
    possible = [index for index in range(len(words)) if with_others[partners(index)].any()]
    if not possible:
        raise DatasetError(
            f"no two of {len(words)} recordings have one word and two speakers, the first of whom says another word",
            hint="several speakers must say several words",
        )
    triples = []
    for _ in range(count):
        third = int(generator.choice(possible))
        candidates = partners(third)
        first = int(generator.choice(candidates[with_others[candidates]]))
        triples.append((first, int(generator.choice(others(first))), third))
    return triples
