import json

import pytest
from datasets import Dataset

from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.data import Splits
from speechprompt_hf.data.trained_rows import known_rows, read_trained_rows, row_digests, write_trained_rows

UNITS = {"x": [1, 2], "y": [1, 3], "z": [2, 3], "w": [3, 1], "twin of x": [1, 2]}


def recordings(*names):
    return Dataset.from_dict({"content": list(names), "units": [UNITS[name] for name in names]})


def units(*names):
    return recordings(*names).remove_columns("content")


@pytest.fixture(params=[recordings, units], ids=["recordings", "units"])
def trained(request, tmp_path):
    """What was written of two kinds of data sets: x and y trained, z chose the epoch."""
    rows = request.param
    write_trained_rows(tmp_path / "t.json", Splits(rows("x", "y", "x"), rows("z"), rows("w")))
    return rows, read_trained_rows(tmp_path / "t.json")


def test_what_was_written_is_read(trained):
    rows, known = trained
    for part, names in (("train", ("x", "y")), ("validation", ("z",))):
        assert known[part] == {column: frozenset(all_) for column, all_ in row_digests(rows(*names)).items()}
        assert {len(digests) for digests in known[part].values()} == {len(names)}


@pytest.mark.parametrize("asked", [recordings, units])
def test_rows_are_known_again_whatever_either_side_holds(trained, asked):
    rows, known = trained
    what = "recordings" if rows is asked is recordings else "units"
    found = list(known_rows(asked("w", "x", "z", "y", "w"), known))
    assert found == [("train", 2, what), ("validation", 1, what)]
    assert list(known_rows(asked("w"), known)) == []


def test_other_recordings_with_the_same_units_are_new_where_recordings_can_be_told_apart(trained):
    rows, known = trained
    expected = [] if rows is recordings else [("train", 1, "units")]
    assert list(known_rows(recordings("twin of x", "w"), known)) == expected


def test_files_of_earlier_versions_are_read(tmp_path):
    for rows, column in ((recordings, "content"), (units, "units")):
        old = {"train": "".join(row_digests(rows("x", "y"))[column]), "validation": ""}
        (tmp_path / "t.json").write_text(json.dumps(old))
        known = read_trained_rows(tmp_path / "t.json")
        what = "recordings" if rows is recordings else "units"
        assert list(known_rows(rows("x", "w"), known)) == [("train", 1, what)]
        # Recordings have both digests, so that a file of either kind knows them.
        assert list(known_rows(recordings("x", "w"), known)) == [("train", 1, what)]


@pytest.mark.parametrize("text", ["[]", '{"train": 3}', '{"train": {"units": 3}}', "{"])
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(ConfigurationError, match=r"t\.json"):
        read_trained_rows(tmp_path / "t.json")
