"""Agreement of units with phones, time warping, and ABX, against definitions and slow loops."""

from collections import Counter
from functools import cache
from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechprompt_hf.core.errors import DatasetError
from speechprompt_hf.evaluation.unit_quality import abx_error, cosine_costs, dtw_distances, phone_agreement

FRAMES = st.lists(st.tuples(st.integers(0, 4), st.sampled_from("abc")), min_size=2, max_size=40)


def entropy(values):
    return -sum(count / len(values) * log(count / len(values)) for count in Counter(values).values())


@given(FRAMES)
def test_agreement_is_that_of_the_definitions(frames):
    units, phones = zip(*frames, strict=True)
    if len(set(phones)) < 2:
        with pytest.raises(DatasetError, match="at least two must occur"):
            phone_agreement(units, phones)
        return
    found = phone_agreement(units, phones)
    shared = entropy(units) + entropy(phones) - entropy(frames)
    assert found.pnmi == pytest.approx(shared / entropy(phones), abs=1e-9)
    by_unit = [max(Counter(p for u, p in frames if u == unit).values()) for unit in set(units)]
    by_phone = [max(Counter(u for u, p in frames if p == phone).values()) for phone in set(phones)]
    assert found.phone_purity == pytest.approx(sum(by_unit) / len(frames))
    assert found.cluster_purity == pytest.approx(sum(by_phone) / len(frames))
    assert found.num_frames == len(frames)


def test_units_that_are_the_phones_and_units_that_say_nothing():
    phones = list("aabbcc") * 10
    perfect = phone_agreement([ord(phone) for phone in phones], phones)
    assert (perfect.phone_purity, perfect.cluster_purity, perfect.pnmi) == (1.0, 1.0, pytest.approx(1.0))
    constant = phone_agreement([7] * len(phones), phones)
    assert (constant.phone_purity, constant.cluster_purity) == (pytest.approx(1 / 3), 1.0)
    assert constant.pnmi == pytest.approx(0.0, abs=1e-12)


def test_frames_of_different_number_are_refused():
    with pytest.raises(DatasetError, match="3 units and 2 phones"):
        phone_agreement([1, 2, 3], ["a", "b"])


def slow_dtw(costs):
    @cache
    def best(row, column):
        if row == column == 0:
            return costs[0, 0], 1
        steps = [(row - 1, column - 1), (row - 1, column), (row, column - 1)]
        total, length = min(best(*step) for step in steps if min(step) >= 0)
        return total + costs[row, column], length + 1

    total, length = best(costs.shape[0] - 1, costs.shape[1] - 1)
    return total / length


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), max_size=5), st.integers(0, 2**16))
def test_warping_is_that_of_a_recursion(shapes, seed):
    generator = np.random.default_rng(seed)
    costs = [generator.integers(0, 4, shape).astype(float) for shape in shapes]
    assert dtw_distances(costs) == pytest.approx([slow_dtw(cost) for cost in costs])


def test_a_word_said_slowly_is_itself():
    frames = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    slow = np.repeat(frames, 3, axis=0)
    assert dtw_distances([cosine_costs(frames, slow), cosine_costs(frames, slow[::-1])])[0] < 1e-3
    assert dtw_distances([cosine_costs(frames, slow[::-1])])[0] > 0.1


def test_pairs_without_frames_are_refused():
    with pytest.raises(DatasetError, match="pair 1 has 0 and 2 frames"):
        dtw_distances([np.zeros((1, 1)), np.zeros((0, 2))])


def test_angles():
    frames = np.array([[1, 0], [0, 2], [-3, 0], [0, 0]], dtype=np.float32)
    assert cosine_costs(frames[:3], frames[:1])[:, 0] == pytest.approx([0, 0.5, 1])
    assert np.isfinite(cosine_costs(frames, frames)).all()


def recordings(noise, seed=0):
    generator = np.random.default_rng(seed)
    words = {word: generator.normal(size=(5, 8)) for word in "abcd"}
    rows = [(word, speaker) for word in words for speaker in "xyz"]
    features = [(words[word] + noise * generator.normal(size=(5, 8))).astype(np.float32) for word, _ in rows]
    return features, [word for word, _ in rows], [speaker for _, speaker in rows]


def test_words_that_sound_alike_everywhere_are_told_apart_and_noise_is_chance():
    assert abx_error(*recordings(0.01), num_triples=200).error == 0.0
    random = abx_error(*recordings(1e6), num_triples=2000)
    assert 0.3 < random.error < 0.7
    features, words, speakers = recordings(0.0)
    same = [features[0]] * len(features)
    assert abx_error(same, words, speakers, num_triples=50).error == 0.5


def test_draws_depend_on_the_seed_alone():
    given_, other = recordings(4.0), recordings(4.0, seed=5)
    assert abx_error(*given_, num_triples=100, batch_size=7) == abx_error(*given_, num_triples=100)
    assert abx_error(*given_, num_triples=100, seed=1) != abx_error(*given_, num_triples=100)
    assert abx_error(*given_, num_triples=100) != abx_error(*other, num_triples=100)


@pytest.mark.parametrize(
    ("words", "speakers"),
    [(["a", "b"], ["x", "x"]), (["a", "a"], ["x", "y"]), (["a", "b"], ["x", "y"]), ([], [])],
)
def test_sets_without_a_triple_are_refused(words, speakers):
    features = [np.ones((2, 3), dtype=np.float32)] * len(words)
    with pytest.raises(DatasetError, match="several speakers must say several words"):
        abx_error(features, words, speakers)
