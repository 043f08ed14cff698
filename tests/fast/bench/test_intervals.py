"""Intervals of means over answers that come in groups."""

import numpy as np
import pytest
from scipy.stats import beta

from speechprompt_hf.bench.intervals import answer_groups, bootstrap_interval, share_interval


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_where_all_answers_agree_a_group_counts_once(value):
    groups = np.repeat(np.arange(8), 75)
    low, high = share_interval(np.full(600, value), groups)
    # Clopper and Pearson, of eight draws that agree.
    bound = beta.ppf(0.025, 8, 1)
    assert (low, high) == pytest.approx((bound, 1.0) if value else (0.0, 1 - bound))
    alone = share_interval(np.full(600, value), np.arange(600))
    assert alone[1] - alone[0] < 0.01 < high - low


def test_one_group_that_differs_is_drawn_as_a_whole():
    groups = np.repeat(np.arange(20), 10)
    values = (groups != 3).astype(float)
    low, high = share_interval(values, groups)
    assert (low, high) == bootstrap_interval(values, groups)
    assert low < 0.9 and high == 1.0


def test_answers_without_a_speaker_are_groups_of_their_own():
    groups, by_speaker = answer_groups([*"aabbccddeeffgghh", None, None], ["x"] * 16 + ["y", "z"])
    assert by_speaker
    assert groups.tolist() == [*(number // 2 for number in range(16)), 8, 9]
    groups, by_speaker = answer_groups(["a", "b"], ["x", "x"])
    assert not by_speaker
    assert groups.tolist() == [0, 0]
