"""Folds test each row once, keep groups apart, and do not depend on the seed of training."""

from collections import Counter

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from speechprompt_hf.bench.datasets import Protocol
from speechprompt_hf.bench.protocols import draw_shots, make_folds, with_validation
from speechprompt_hf.core.errors import DatasetError


def table(labels, speakers, parts=None, **columns):
    parts = parts or ["train"] * len(labels)
    return Dataset.from_dict({"label": labels, "speaker": speakers, "part": parts, **columns})


rows = st.lists(
    st.tuples(st.sampled_from("ab"), st.one_of(st.none(), st.sampled_from("stuvwxyz"))), min_size=8, max_size=60
)


@settings(max_examples=30, deadline=None)
@given(rows, st.integers(2, 5))
def test_grouped_folds_test_each_row_once_and_keep_speakers_apart(rows, folds):
    labels, speakers = [label for label, _ in rows], [speaker for _, speaker in rows]
    data = table(labels, speakers)
    try:
        made = make_folds(Protocol("grouped", folds=folds), data)
    except DatasetError as error:
        assert "values of speaker" in str(error) or "one label" in str(error)
        return
    assert len(made) == folds
    assert sorted(row for fold in made for row in fold.test) == list(range(len(rows)))
    for fold in made:
        assert sorted([*fold.train, *fold.test]) == list(range(len(rows)))
        known = [{speakers[row] for row in side} - {None} for side in (fold.train, fold.test)]
        assert not known[0] & known[1]
    assert make_folds(Protocol("grouped", folds=folds), data) == made


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 4), st.integers(4, 30), st.integers(4, 30))
def test_stratified_folds_test_each_row_once_and_share_labels_out(folds, first, second):
    data = table(["a"] * first + ["b"] * second, [None] * (first + second))
    made = make_folds(Protocol("stratified", folds=folds), data)
    assert sorted(row for fold in made for row in fold.test) == list(range(first + second))
    sizes = [sum(row < first for row in fold.test) for fold in made]
    assert max(sizes) - min(sizes) <= 1


@settings(max_examples=30, deadline=None)
@given(rows, st.integers(1, 5), st.integers(0, 3))
def test_shots_are_so_many_rows_a_class_and_grow(rows, shots, seed):
    labels = [label for label, _ in rows]
    train = tuple(range(0, len(rows), 2))
    drawn = draw_shots(train, labels, shots, seed)
    assert set(drawn) <= set(train) and list(drawn) == sorted(drawn)
    there = Counter(labels[row] for row in train)
    assert Counter(labels[row] for row in drawn) == {label: min(shots, number) for label, number in there.items()}
    assert set(drawn) <= set(draw_shots(train, labels, shots + 1, seed))


def test_shots_depend_on_the_seed():
    labels = ["a", "b"] * 50
    assert len({draw_shots(range(100), labels, 3, seed) for seed in range(5)}) == 5


def test_official_parts():
    data = table(list("abababab"), [None] * 8, ["train"] * 4 + ["validation"] * 2 + ["test"] * 2)
    (fold,) = make_folds(Protocol(), data)
    assert (fold.train, fold.validation, fold.test) == ((0, 1, 2, 3), (4, 5), (6, 7))
    (fold,) = make_folds(Protocol(train=("train", "validation")), data)
    assert (fold.train, fold.validation, fold.test) == ((0, 1, 2, 3, 4, 5), (), (6, 7))


def test_held_out_groups_and_columns():
    data = table(list("abababab"), list("ssttuuvv"), take=[0, 1, 2, 3, 0, 1, 2, 3])
    folds = make_folds(Protocol("held-out", values=(("s", "t"), ("u",))), data)
    assert [(fold.name, fold.test) for fold in folds] == [("s+t", (0, 1, 2, 3)), ("u", (4, 5))]
    (fold,) = make_folds(Protocol("column", column="take", values=(("0", "1"),)), data)
    assert (fold.train, fold.test) == ((2, 3, 6, 7), (0, 1, 4, 5))


def test_validation_rows_come_from_other_training_speakers():
    data = table(["a", "b"] * 30, [f"s{row // 6}" for row in range(60)])
    protocol = Protocol("grouped", folds=2)
    for fold in make_folds(protocol, data):
        carved = with_validation(fold, data, protocol)
        assert carved.test == fold.test and carved.validation
        assert sorted([*carved.train, *carved.validation]) == list(fold.train)
        speakers = [{data["speaker"][row] for row in side} for side in (carved.train, carved.validation, carved.test)]
        assert sum(map(len, speakers)) == len(set().union(*speakers))
    (given,) = make_folds(Protocol(), table(list("abab"), [None] * 4, ["train", "train", "validation", "test"]))
    assert with_validation(given, data, Protocol()) == given


def sides(data, column, fold):
    """Values of the column on both sides of what was carved."""
    return [{data[column][row] for row in side} for side in (fold.train, fold.validation)]


@pytest.mark.parametrize("held_out", [False, True])
def test_validation_rows_are_whole_groups_of_the_protocol(held_out):
    data = table(
        ["a", "b"] * 60,
        [f"s{row // 2 % 6}" for row in range(120)],
        sentence=[f"t{row // 2 % 20}" for row in range(120)],
    )
    protocol = Protocol("grouped", group="sentence", folds=3)
    if held_out:
        protocol = Protocol("held-out", group="sentence", values=(("t0", "t1"),))
    for fold in make_folds(protocol, data):
        train, validation = sides(data, "sentence", with_validation(fold, data, protocol))
        assert validation and not train & validation


@pytest.mark.parametrize(
    "protocol", [Protocol("stratified", folds=2), Protocol("held-out", group="take", values=(("s0", "t0"),))]
)
def test_a_speaker_that_is_the_label_is_no_group(protocol):
    # Of each speaker's two takes one trains: nothing of a label would be left.
    names = ["s", "t"] * 20
    data = table(names, names, take=[f"{name}{row // 20}" for row, name in enumerate(names)])
    for fold in make_folds(protocol, data):
        carved = with_validation(fold, data, protocol)
        train, validation = sides(data, "label", carved)
        assert train == validation == {"s", "t"}
        assert sorted([*carved.train, *carved.validation]) == list(fold.train)


def test_groups_that_cannot_be_parted_are_named():
    data = table(["a", "a", "b", "b", "b", "b"] * 4, [None] * 24, take=list("uuvvww") * 4)
    protocol = Protocol("held-out", group="take", values=(("w",),))
    (fold,) = make_folds(protocol, data)
    with pytest.raises(
        DatasetError, match=r"no validation rows of another take: label\(s\) 'a', 'b' come from 1 of 2"
    ):
        with_validation(fold, data, protocol)


@pytest.mark.parametrize(
    "protocol",
    [
        Protocol("grouped", folds=3),
        Protocol("stratified", folds=4),
        Protocol("held-out", values=(("s0",), ("s1", "s2"))),
        Protocol("column", column="speaker", values=(("s0",),)),
        Protocol(),
    ],
    ids=lambda protocol: protocol.kind,
)
def test_the_declaration_knows_the_number_of_folds(protocol):
    data = table(["a", "b"] * 30, [f"s{row // 6}" for row in range(60)], ["train"] * 40 + ["test"] * 20)
    assert len(make_folds(protocol, data)) == protocol.num_folds


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        (Protocol("grouped", folds=4), "3 values of speaker for 4 folds"),
        (Protocol("stratified", folds=5), "a label has 3 rows for 5 folds"),
        (Protocol("held-out", values=(("z",),)), "there is no speaker 'z' to hold out"),
        (Protocol("held-out", values=(("s", "t", "u"),)), "the training rows of fold s+t+u are none"),
        (Protocol(), "the test rows of fold official are none"),
        (Protocol("column", column="speaker", values=(("s", "t"),)), "have one label"),
    ],
)
def test_impossible_protocols(protocol, words):
    data = table(["a", "b", "a", "b", "a", "a", "b"], list("ssttuus"))
    if "one label" in words:
        data = data.select(range(6))
    with pytest.raises(DatasetError) as caught:
        make_folds(protocol, data)
    assert words in str(caught.value)
