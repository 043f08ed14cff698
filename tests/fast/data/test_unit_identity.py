import json

import pytest
from datasets import Dataset

from speechprompt_hf.core.errors import DatasetError, FingerprintMismatchError, UnitError
from speechprompt_hf.data import load_rows, load_splits
from speechprompt_hf.data.unit_identity import check_unit_identity


def save(path, units):
    labels = ["a", "b"] * (len(units) // 2)
    Dataset.from_dict({"units": units, "label": labels}).to_parquet(str(path))
    return path


def test_units_of_frames_and_text_are_merged_integers(tmp_path):
    frames = load_rows(save(tmp_path / "frames.parquet", [[1, 1, 2], [3, 4, 4]]))
    text = load_rows(save(tmp_path / "text.parquet", ["71 12 12 56", "7"]))
    merged = load_rows(save(tmp_path / "merged.parquet", [[1, 2], []]))
    assert list(frames["units"]) == [[1, 2], [3, 4]]
    assert list(text["units"]) == [[71, 12, 56], [7]]
    assert list(merged["units"]) == [[1, 2], []]


@pytest.mark.parametrize("units", [["1 2", "x y"], [[0.5], [1.5]], [[1], None]])
def test_other_units_are_refused_naming_the_row(tmp_path, units):
    with pytest.raises(UnitError, match=r"the units of pool row \d"):
        load_rows(save(tmp_path / "a.parquet", units))


def test_splits_know_what_made_their_units(tmp_path):
    save(tmp_path / "train.parquet", [[1, 2]] * 20)
    assert load_splits(tmp_path).unit_fingerprint is None
    (tmp_path / "units.json").write_text(json.dumps({"fingerprint": {"digest": "abc", "encoder_id": "mine"}}))
    assert load_splits(tmp_path).unit_fingerprint["digest"] == "abc"
    assert load_splits(tmp_path / "train.parquet").unit_fingerprint["digest"] == "abc"


def test_a_corpus_that_is_not_complete_is_refused(tmp_path):
    save(tmp_path / "train.parquet", [[1, 2]] * 20)
    (tmp_path / "units.json").write_text(json.dumps({"fingerprint": {"digest": "abc"}, "complete": False}))
    for source in (tmp_path, tmp_path / "train.parquet"):
        with pytest.raises(DatasetError, match="has not finished") as caught:
            load_splits(source)
        assert "start that command again" in caught.value.hint
    (tmp_path / "units.json").write_text(json.dumps({"fingerprint": {"digest": "abc"}, "complete": True}))
    assert load_splits(tmp_path).unit_fingerprint["digest"] == "abc"


def test_both_identities_are_named():
    check_unit_identity({"digest": "a"}, {"digest": "a", "encoder_id": "other name"}, "data")
    check_unit_identity(None, {"digest": "a"}, "data")
    with pytest.raises(FingerprintMismatchError, match=r"one \(aaaa\).*two \(bbbb\)"):
        made_by, wanted = ({"digest": d, "encoder_id": n} for d, n in (("aaaa", "one"), ("bbbb", "two")))
        check_unit_identity(made_by, wanted, "data")
