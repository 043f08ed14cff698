import pytest
from datasets import Dataset

from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.data import Splits
from speechprompt_hf.data.trained_rows import read_trained_rows, row_digests, write_trained_rows


def rows(*contents, column="content"):
    table = {"units": [[1, 2]] * len(contents), "label": ["a"] * len(contents)}
    return Dataset.from_dict({**table, column: list(contents)})


def test_what_was_written_is_read(tmp_path):
    splits = Splits(rows("x", "y", "x"), rows("z"), rows("w"))
    write_trained_rows(tmp_path / "t.json", splits)
    known = read_trained_rows(tmp_path / "t.json")
    assert known == {"train": frozenset(row_digests(rows("x", "y"))), "validation": frozenset(row_digests(rows("z")))}
    assert [len(part) for part in known.values()] == [2, 1]
    assert not known["train"] & set(row_digests(splits.test))


def test_units_stand_for_recordings_that_are_not_there():
    one, other = row_digests(rows([1, 2], [1, 3], column="units"))
    assert one != other and one == row_digests(rows([1, 2], column="units"))[0]


@pytest.mark.parametrize("text", ["[]", '{"train": 3}', "{"])
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(ConfigurationError, match=r"t\.json"):
        read_trained_rows(tmp_path / "t.json")
