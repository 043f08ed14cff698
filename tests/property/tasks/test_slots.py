"""Slots to text and back is exact, whatever names and values are; texts of models never make it fail."""

from hypothesis import given
from hypothesis import strategies as st

from speechprompt_hf.tasks import NORMALIZATIONS, normalize_text, slots_to_text, text_to_slots

NAMES = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Z"), blacklist_characters="[]"), min_size=1).filter(
    lambda name: not name.startswith("/") and name.split() == [name]
)
WORDS = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="[]"), min_size=1).filter(
    lambda word: word.split() == [word]
)
VALUES = st.lists(WORDS, min_size=1, max_size=4).map(" ".join)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=5))
def test_slots_come_back_exactly(slots):
    assert text_to_slots(slots_to_text(slots)) == tuple(slots)


@given(st.dictionaries(NAMES, st.none() | VALUES, max_size=5))
def test_absent_slots_leave_no_trace(slots):
    there = tuple((name, value) for name, value in slots.items() if value is not None)
    assert text_to_slots(slots_to_text(slots)) == there


@given(st.lists(st.sampled_from(["[a]", "[/a]", "[b]", "[/b]", "x", "yy", "[", "]", "[/", " "]), max_size=12))
def test_any_text_has_slots_that_can_be_written_again(parts):
    slots = text_to_slots(" ".join(parts))
    tidy = tuple((name, " ".join(value.replace("[", " ").replace("]", " ").split())) for name, value in slots)
    tidy = tuple((name, value) for name, value in tidy if value)
    assert text_to_slots(slots_to_text(tidy)) == tidy


@given(st.text(max_size=40), st.sampled_from(sorted(NORMALIZATIONS)))
def test_normalising_twice_changes_nothing(text, name):
    once = normalize_text(text, name)
    assert normalize_text(once, name) == once
