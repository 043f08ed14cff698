import numpy as np
import pytest

from speechprompt_hf.core.errors import UnitError
from speechprompt_hf.core.units import UnitSequence, expand_runs, merge_runs


def test_merge_runs_keeps_the_first_unit_of_each_run():
    units, durations = merge_runs([1, 1, 2, 2, 1])
    assert units.tolist() == [1, 2, 1]
    assert durations.tolist() == [2, 2, 1]


def test_empty_input_gives_no_units():
    units, durations = merge_runs([])
    assert units.size == durations.size == 0
    assert len(UnitSequence.from_frames([])) == 0


@pytest.mark.parametrize("wrong", [[0.5, 1.0], [[1, 2], [3, 4]], ["a"]])
def test_anything_but_a_row_of_integers_is_refused(wrong):
    with pytest.raises(UnitError, match="must be one row of integers"):
        merge_runs(wrong)


def test_expand_runs_refuses_missing_and_impossible_durations():
    with pytest.raises(UnitError, match="2 units came with 1 durations"):
        expand_runs([1, 2], [1])
    with pytest.raises(UnitError, match="duration 0 is below one frame"):
        expand_runs([1, 2], [1, 0])


def test_sequences_compare_by_content():
    assert UnitSequence.from_frames([3, 3, 4]) == UnitSequence(np.array([3, 4]), np.array([2, 1]))
    assert UnitSequence.from_frames([3, 3, 4]) != UnitSequence.from_frames([3, 4])
