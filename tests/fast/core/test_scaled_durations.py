"""Durations at another tempo, against a slow loop and by what must hold of them."""

import math

import numpy as np
import pytest

from speechprompt_hf.core.errors import ConfigurationError, UnitError
from speechprompt_hf.core.units import scaled_durations


def slow(durations, tempo):
    """Each unit ends where its rounded end is, or one frame behind the one before."""
    frames, end, total = [], 0, 0
    for duration in durations:
        total += duration
        new = max(end + 1, math.floor(total / tempo + 0.5))
        frames.append(new - end)
        end = new
    return frames


@pytest.mark.parametrize("tempo", [0.1, 0.5, 0.77, 1.0, 1.2, 2.0, 3.3, 10.0])
def test_against_a_slow_loop(tempo):
    generator = np.random.default_rng(int(tempo * 100))
    for length in (0, 1, 2, 7, 40):
        for most in (2, 5, 30):
            durations = generator.integers(1, most + 1, length)
            found = scaled_durations(durations, tempo)
            assert found.tolist() == slow(durations.tolist(), tempo)
            assert found.dtype == np.int64
            if length:
                assert found.min() >= 1
                assert found.sum() >= math.floor(durations.sum() / tempo + 0.5)


def test_twice_as_fast_halves_durations_within_rounding():
    durations = np.array([2, 4, 10, 7, 3, 6])
    assert np.abs(scaled_durations(durations, 2.0) - durations / 2).max() <= 0.5
    assert scaled_durations([2, 4, 6], 2.0).tolist() == [1, 2, 3]
    assert scaled_durations([1, 1, 1, 1], 2.0).tolist() == [1, 1, 1, 1]
    assert scaled_durations(durations, 1.0).tolist() == durations.tolist()


def test_what_is_refused():
    for tempo in (0, -1, 0.09, 11, float("nan"), float("inf")):
        with pytest.raises(ConfigurationError, match="tempo is"):
            scaled_durations([1], tempo)
    with pytest.raises(UnitError, match="duration 0 is below one frame"):
        scaled_durations([1, 0], 2.0)
