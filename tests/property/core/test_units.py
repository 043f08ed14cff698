from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from speechprompt_hf.core.units import expand_runs, merge_runs
from speechprompt_hf.core.vocabulary import UnitVocabulary

frames = st.lists(st.integers(0, 5), max_size=60)


@given(frames)
def test_merging_agrees_with_groupby_and_expansion_restores_the_frames(frame_units):
    units, durations = merge_runs(frame_units)
    runs = [(unit, len(list(run))) for unit, run in groupby(frame_units)]
    assert list(zip(units.tolist(), durations.tolist(), strict=True)) == runs
    assert expand_runs(units, durations).tolist() == frame_units


@given(st.permutations(range(12)), st.lists(st.integers(0, 11), max_size=20))
def test_every_dictionary_order_round_trips(order, units):
    vocabulary = UnitVocabulary(tuple(str(unit) for unit in order))
    ids = vocabulary.encode(units)
    assert vocabulary.decode(ids) == units
    assert all(order[token_id - 4] == unit for token_id, unit in zip(ids, units, strict=True))
