"""Units from Arrow to token rows: the rows of lists, in two bytes a unit."""

import tracemalloc

import numpy as np
import pytest
from datasets import Dataset, Features, LargeList, List, Value
from hypothesis import given
from hypothesis import strategies as st

from speechprompt_hf.core.errors import DatasetError, UnitError
from speechprompt_hf.core.vocabulary import EOS_TOKEN_ID, UnitVocabulary
from speechprompt_hf.pretraining import unit_columns
from speechprompt_hf.pretraining.checkpoints import rows_digest
from speechprompt_hf.pretraining.rows import make_rows
from speechprompt_hf.pretraining.unit_columns import UnitColumn

# By frequency, as in the dictionaries of released models.
VOCABULARY = UnitVocabulary(("5", "0", "91", "2", "3"))
UTTERANCES = st.lists(st.lists(st.sampled_from([5, 0, 91, 2, 3]), max_size=12), max_size=12)


def table_of(sequences, feature=None):
    return Dataset.from_dict({"units": sequences}, features=Features({"units": feature or List(Value("int32"))}))


def rows_by_hand(sequences, max_tokens, break_mode):
    """The convention, token by token in lists."""
    tokens = [[*VOCABULARY.encode(units), EOS_TOKEN_ID] for units in sequences if units]
    pieces = [[token for row in tokens for token in row]] if break_mode == "stream" else tokens
    rows = []
    for piece in pieces:
        for start in range(0, len(piece), max_tokens - 1):
            before = EOS_TOKEN_ID if start == 0 or break_mode == "utterance" else piece[start - 1]
            part = piece[start : start + max_tokens - 1]
            if len(part) > 1 or start == 0:
                rows.append([before, *part])
    return rows


@given(UTTERANCES, st.integers(2, 9), st.sampled_from(["utterance", "stream"]), st.integers(1, 5))
def test_rows_of_lists_and_of_columns_are_those_of_the_convention(sequences, max_tokens, break_mode, rows_at_once):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unit_columns, "_ROWS_AT_ONCE", rows_at_once)
        wanted = rows_by_hand(sequences, max_tokens, break_mode)
        for given_ in (sequences, UnitColumn(table_of(sequences))):
            if not wanted:
                with pytest.raises(DatasetError, match="no utterance with units"):
                    make_rows(given_, VOCABULARY, max_tokens=max_tokens, break_mode=break_mode)
                continue
            rows = make_rows(given_, VOCABULARY, max_tokens=max_tokens, break_mode=break_mode)
            assert [row.tolist() for row in rows] == wanted
            assert rows_digest(rows) == rows_digest([np.array(row, dtype=np.int64) for row in wanted])


def test_checkpoints_of_earlier_versions_know_their_rows():
    sequences = [[index * step % 7 for index in range(step)] for step in range(1, 40, 3)]
    vocabulary = UnitVocabulary.from_num_units(7)
    # Seen with version 0.1.0 before its rows were of two bytes an id.
    earlier = {
        "utterance": "8217b4e0662fadcd3d64ed8b76dbe63c240799244aa3c3540245c78b9eae9e46",
        "stream": "644a2dda711e4f2b74edcb30d9081b9ddda2a88fc4f21d2e4301656ef2a7cb05",
    }
    for mode, digest in earlier.items():
        assert rows_digest(make_rows(sequences, vocabulary, max_tokens=16, break_mode=mode)) == digest


def test_a_column_is_a_sequence_of_vectors():
    rows = [[1, 2, 3], [], [4], [], [5, 6]]
    column = UnitColumn(table_of(rows))
    assert [units.tolist() for units in column] == rows and len(column) == 5
    assert column.lengths.tolist() == [3, 0, 1, 0, 2]
    assert column[0].tolist() == [1, 2, 3] and column[-1].tolist() == [5, 6]
    assert [units.tolist() for units in column[1:3]] == [[], [4]]
    with pytest.raises(IndexError):
        column[5]
    chosen = UnitColumn(table_of(rows).select([4, 1, 0]))
    assert [units.tolist() for units in chosen] == [[5, 6], [], [1, 2, 3]]
    assert len(UnitColumn(table_of([]))) == 0 and list(UnitColumn(table_of([]))) == []


@pytest.mark.parametrize("feature", [List(Value("uint8")), LargeList(Value("int64")), List(Value("int16"), length=2)])
def test_every_kind_of_list_is_read(feature):
    rows = make_rows(UnitColumn(table_of([[5, 91], [2, 0]], feature)), VOCABULARY, max_tokens=9)
    assert [row.tolist() for row in rows] == [[2, 4, 6, 2], [2, 7, 5, 2]]


@pytest.mark.parametrize("unit", [1, 4, 92, -1, 2**20])
def test_a_unit_that_the_vocabulary_lacks_is_named(unit):
    for sequences in ([[5, 91], [0, unit]], UnitColumn(table_of([[5, 91], [0, unit]]))):
        with pytest.raises(UnitError, match=f"unit {unit} is not among the 5 units"):
            make_rows(sequences, VOCABULARY, max_tokens=9)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["71 12"], "holds string, not lists of integers"),
        ([[0.5]], r"holds list<.*double>, not lists of integers"),
        ([1], "holds int64, not lists of integers"),
        ([[1], None, [2]], "row 1 of the corpus has no units"),
        ([[1], [2], [1, None]], "row 2 of the corpus lacks some of its units"),
    ],
)
def test_other_columns_are_refused(column, message, monkeypatch):
    monkeypatch.setattr(unit_columns, "_ROWS_AT_ONCE", 1 if "row" in message else 9)
    with pytest.raises(DatasetError, match=message):
        UnitColumn(Dataset.from_dict({"units": column}))


def test_ids_take_two_bytes_or_four():
    for num_units, size in ((2**15 - 4, 2), (2**15 - 3, 4)):
        rows = make_rows([[num_units - 1]], UnitVocabulary.from_num_units(num_units), max_tokens=9)
        assert rows[0].tolist() == [2, num_units + 3, 2] and rows.ids.itemsize == size


def test_the_corpus_is_held_once_in_two_bytes_a_unit(tmp_path):
    generator = np.random.default_rng(0)
    rows = [generator.integers(0, 100, 316) for _ in range(3000)]
    table_of(rows).to_parquet(str(tmp_path / "t.parquet"))
    table = Dataset.from_parquet(str(tmp_path / "t.parquet"), cache_dir=str(tmp_path / "cache"))
    vocabulary = UnitVocabulary.from_num_units(100)
    make_rows(UnitColumn(table.select(range(9))), vocabulary, max_tokens=512)
    tracemalloc.start()
    try:
        made = make_rows(UnitColumn(table), vocabulary, max_tokens=512)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(made) == 3000
    assert held / (3000 * 316) < 2.2
