"""Folders become rows as declared: cut, filled, without repeats, with rows of further files."""

import io
from itertools import pairwise

import numpy as np
import pytest
import soundfile
from datasets import Dataset

from speechprompt_hf.bench.bases import open_base
from speechprompt_hf.bench.datasets import AddedRows, DatasetSpec, Protocol, Synthetic
from speechprompt_hf.bench.loading import open_dataset
from speechprompt_hf.bench.rows import RATE, read_rows, synthetic_rows
from speechprompt_hf.core.errors import ConfigurationError, DatasetError, FingerprintMismatchError, LabelError
from speechprompt_hf.core.files import write_json
from tests.fixtures.unit_tasks import save_audio_base


def flac(seconds, amplitude=0.3, rate=RATE):
    generator = np.random.default_rng(int(seconds * 1000))
    stream = io.BytesIO()
    soundfile.write(stream, amplitude * generator.uniform(-1, 1, int(seconds * rate)), rate, format="FLAC")
    return stream.getvalue()


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    """Four words of unequal lengths in two parts, and three noises, one of them silent."""
    root = tmp_path_factory.mktemp("data")
    (root / "words").mkdir()
    lengths = {"train": [0.5, 1.5, 0.7, 0.8], "test": [0.6, 1.2]}
    for part, seconds in lengths.items():
        rows = {
            "path": [f"{part}/{number}.wav" for number in range(len(seconds))],
            "audio": [flac(each) for each in seconds],
            "word": ["one", "two", None, "one"][: len(seconds)],
            "speaker": ["s", "t", "s", "u"][: len(seconds)],
            "take": list(range(len(seconds))),
        }
        Dataset.from_dict(rows).to_parquet(str(root / "words" / f"{part}.parquet"))
    noise = {"path": ["n0", "n1", "n2"], "audio": [flac(2), flac(1.1, 0.0), flac(3)], "split": ["train"] * 3}
    Dataset.from_dict(noise).to_parquet(str(root / "words" / "noise.parquet"))
    (root / "units").mkdir()
    units = {"units": [[1, 2, 3], [1, 2, 3], [1, 2, 3], [4, 5]], "label": ["a", "a", "b", "b"]}
    for part in ("train", "test"):
        Dataset.from_dict(units).to_parquet(str(root / "units" / f"{part}.parquet"))
    return root


def wave(audio):
    samples, rate = soundfile.read(io.BytesIO(audio), dtype="float32")
    assert rate == RATE
    return samples


def test_recordings_are_cut_or_padded(data_root):
    options = {"folder": "words", "label": ("word",), "missing_label": "none"}
    whole = read_rows(DatasetSpec("x", **options), data_root)
    rows = read_rows(DatasetSpec("x", seconds=1.0, **options), data_root)
    assert list(rows["label"]) == ["one", "two", "none", "one", "one", "two"]
    assert list(rows["part"]) == ["train"] * 4 + ["test"] * 2
    for audio, original in zip(rows["audio"], whole["audio"], strict=True):
        samples, source = wave(audio), wave(original)
        assert len(samples) == RATE
        kept = min(len(source), RATE)
        np.testing.assert_array_equal(samples[:kept], source[:kept])
        assert not samples[kept:].any()


def test_rows_of_a_further_file_and_one_label_for_the_folder(data_root):
    spec = DatasetSpec(
        "x",
        folder="words",
        label_value="speech",
        add=(AddedRows("noise.parquet", "noise", min_peak=0.001),),
        protocol=Protocol("grouped", group="take", folds=2),
    )
    rows = read_rows(spec, data_root)
    assert list(rows["label"]) == ["speech"] * 6 + ["noise"] * 2
    assert rows["item"][-2:] == ["n0", "n2"]
    assert rows["speaker"][-2:] == [None, None] and rows["take"][-2:] == [None, None]
    assert rows["take"][:4] == ["0", "1", "2", "3"]


def test_repeated_rows_go_in_the_named_parts_alone(data_root):
    rows = read_rows(DatasetSpec("x", folder="units", distinct=("train",)), data_root)
    assert list(rows["part"]) == ["train"] * 3 + ["test"] * 4
    # Equal units with another label stay.
    assert rows["label"][:3] == ["a", "b", "b"]


def test_without_a_speaker(data_root):
    spec = DatasetSpec("x", folder="words", label_value="speech", speaker="")
    assert set(read_rows(spec, data_root)["speaker"]) == {None}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"folder": "words", "label": ("word",)}, "1 row(s) have no label in column 'word'"),
        ({"folder": "words"}, "there is no column 'label'"),
        ({"folder": "words", "label_value": "x", "speaker": "who"}, "there is no column 'who'"),
        (
            {"folder": "words", "label_value": "x", "protocol": Protocol("grouped", group="room")},
            "the train part of x has no column 'room'",
        ),
        ({"folder": "units", "seconds": 1.0}, "holds units, which have no seconds"),
        ({"folder": "absent"}, "the data set x is not there"),
        ({"folder": "words", "label_value": "x", "add": (AddedRows("rain.parquet", "y"),)}, "no folder or file"),
    ],
)
def test_what_cannot_be_read(data_root, options, words):
    with pytest.raises(DatasetError) as caught:
        read_rows(DatasetSpec("x", **options), data_root)
    assert words in str(caught.value)


def test_made_up_rows_are_seeded_and_every_speaker_says_every_label():
    spec = Synthetic(rows=60)
    rows = synthetic_rows(spec)
    assert rows.to_dict() == synthetic_rows(spec).to_dict() != synthetic_rows(Synthetic(rows=60, seed=1)).to_dict()
    assert set(rows["part"]) == {"train", "validation", "test"}
    pairs = set(zip(rows["speaker"], rows["label"], strict=True))
    assert len(pairs) == spec.speakers * spec.labels
    for units in rows["units"]:
        assert all(0 <= unit < spec.units for unit in units)
        assert all(left != right for left, right in pairwise(units))


@pytest.mark.parametrize("seconds", [None, 0.3])
def test_recordings_that_cannot_be_used_do_not_move_folds(tmp_path, seconds):
    base = open_base("default", str(save_audio_base(tmp_path / "base")))
    (tmp_path / "words").mkdir()
    rows = {
        "path": ["0.wav", "1.wav", "2.wav", "3.wav"],
        "audio": [flac(0.2 + number / 50) for number in range(4)],
        "label": ["one", "two", "two", "one"],
    }
    protocol = Protocol("stratified", folds=2)
    spec = DatasetSpec("x", folder="words", label=("label",), protocol=protocol, seconds=seconds)
    opened = []
    for damaged in (False, True):
        if damaged:
            rows["audio"][1] = b"no sound"
        Dataset.from_dict(rows).to_parquet(str(tmp_path / "words" / "train.parquet"))
        opened.append(open_dataset(spec, tmp_path, base, cache_dir=tmp_path / "cache"))
    whole, part = opened
    assert [skip.item for skip in part.skips] == ["1.wav"] and not whole.skips
    for before, after in zip(whole.folds, part.folds, strict=True):
        for side in ("train", "test"):
            items = [whole.rows[row]["item"] for row in getattr(before, side)]
            left = [part.rows[row]["item"] for row in getattr(after, side)]
            assert left == [item for item in items if item != "1.wav"]
    assert whole.digest != part.digest
    fold = part.fold_rows(part.folds[0], None, 0)
    assert list(fold.recordings[0]["item"]) == list(fold.train["item"])
    assert "audio" in fold.recordings[0].column_names


def test_what_does_not_belong_together(data_root, tmp_path):
    options = {"cache_dir": tmp_path}
    spec = DatasetSpec("x", folder="words", label_value="speech", add=(AddedRows("noise.parquet", "noise"),))
    with pytest.raises(ConfigurationError, match="holds recordings and no base is named default"):
        open_dataset(spec, data_root, None, **options)
    spec = DatasetSpec("x", synthetic=Synthetic(), metric="equal_error_rate")
    with pytest.raises(ConfigurationError, match="equal_error_rate and it has 3 classes"):
        open_dataset(spec, None, None, **options)
    with pytest.raises(LabelError, match="'a' is not among the 12 labels"):
        open_dataset(DatasetSpec("x", folder="units", task="keyword_spotting"), data_root, None, **options)


def test_units_of_another_encoder_are_refused(data_root, tmp_path):
    base = open_base("default", str(save_audio_base(tmp_path / "base")))
    (tmp_path / "units").mkdir()
    for part in ("train", "test"):
        table = Dataset.from_parquet(str(data_root / "units" / f"{part}.parquet"))
        table.to_parquet(str(tmp_path / "units" / f"{part}.parquet"))
    write_json(tmp_path / "units" / "units.json", {"fingerprint": {"digest": "other"}})
    with pytest.raises(FingerprintMismatchError, match="the units of x were made by"):
        open_dataset(DatasetSpec("x", folder="units"), tmp_path, base, cache_dir=tmp_path)
