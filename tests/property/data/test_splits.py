import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from speechprompt_hf.core.errors import DatasetError
from speechprompt_hf.data.splits import carve

rows = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("stuvw")), min_size=4, max_size=60)


@settings(max_examples=60, deadline=None)
@given(rows, st.sampled_from([0.1, 0.25, 0.5]), st.integers(0, 5), st.booleans())
def test_parts_are_disjoint_complete_and_keep_every_label_in_the_rest(rows, fraction, seed, with_speakers):
    labels = [label for label, _ in rows]
    speakers = [speaker for _, speaker in rows] if with_speakers else None
    try:
        carved = carve(labels, speakers, fraction, seed)
    except DatasetError as error:
        assert "too few" in str(error) or "kept apart" in str(error)
        return
    assert sorted([*carved.rest, *carved.part]) == list(range(len(rows)))
    assert len(carved.part) and {labels[row] for row in carved.rest} == set(labels)
    again = carve(labels, speakers, fraction, seed)
    assert np.array_equal(again.part, carved.part)
    if carved.speakers_apart:
        assert not {speakers[row] for row in carved.rest} & {speakers[row] for row in carved.part}


def test_sizes_are_near_the_wanted_fraction():
    labels = ["a", "b"] * 200
    speakers = [f"s{row // 10}" for row in range(400)]
    for fraction in (0.1, 0.2, 0.5):
        for who in (None, speakers):
            assert abs(len(carve(labels, who, fraction, 0).part) / 400 - fraction) <= 0.03
