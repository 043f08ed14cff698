"""Rows of a batch in parts: every row once, and no division is cheaper."""

import itertools

import numpy as np
import pytest

from speechprompt_hf.serving.partition import partition_by_length


def cost(parts, lengths, overhead):
    return sum(len(part) * max(lengths[row] for row in part) + overhead for part in parts)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("overhead", [0.0, 0.3, 2.0, 50.0])
def test_no_division_of_the_sorted_rows_is_cheaper(seed, overhead):
    lengths = np.random.default_rng(seed).uniform(0.1, 3, 7).tolist()
    parts = partition_by_length(lengths, overhead)
    assert sorted(itertools.chain(*parts)) == list(range(7))
    order = sorted(range(7), key=lengths.__getitem__)
    cheapest = min(
        cost([order[a:b] for a, b in itertools.pairwise((0, *cuts, 7))], lengths, overhead)
        for count in range(7)
        for cuts in itertools.combinations(range(1, 7), count)
    )
    assert cost(parts, lengths, overhead) == pytest.approx(cheapest)


def test_the_ends():
    assert partition_by_length([], 1.0) == partition_by_length([], float("inf")) == []
    assert partition_by_length([3, 1, 2], float("inf")) == [[1, 2, 0]]
    assert partition_by_length([1, 100, 1, 100], 5) == [[0, 2], [1, 3]]
    assert partition_by_length([4.0], 0) == [[0]]
