import csv
import json
import shutil

import numpy as np
import pytest
import soundfile
from datasets import Audio, ClassLabel, Dataset, Features, List, Value

from speechprompt_hf.core.audio_io import load_waveform
from speechprompt_hf.core.errors import DatasetError
from speechprompt_hf.data import load_rows, load_splits


def all_items(splits):
    return sorted(item for _, part in splits.items() for item in part["item"])


def write_units(path, rows, **columns):
    generator = np.random.default_rng(0)
    table = {"units": [generator.integers(0, 9, 5).tolist() for _ in range(rows)], **columns}
    Dataset.from_dict(table).to_parquet(str(path))


def test_label_folder_is_split_by_speaker(label_folder):
    splits = load_splits(label_folder, test_fraction=0.25, validation_fraction=0.3)
    assert splits.kind == "audio" and splits.labels == ("no", "yes")
    speakers = [set(part["speaker"]) for _, part in splits.items()]
    assert splits.speakers_apart and sorted("".join("".join(names) for names in speakers)) == list("abcd")
    assert len(all_items(splits)) == 16 and "speakers that training does not have" in splits.notes[0]
    assert load_waveform(splits.test[0]["audio"]).shape == (4800,)


def test_the_same_seed_gives_the_same_parts_and_another_seed_others(label_folder):
    once = [list(part["item"]) for _, part in load_splits(label_folder, seed=1).items()]
    again = [list(part["item"]) for _, part in load_splits(label_folder, seed=1).items()]
    others = [[list(part["item"]) for _, part in load_splits(label_folder, seed=seed).items()] for seed in range(2, 6)]
    assert once == again and any(other != once for other in others)


def test_speakers_that_are_ignored_leave_a_note(label_folder):
    splits = load_splits(label_folder, speaker_column="")
    assert splits.speakers_apart is None
    assert "may be on both sides" in splits.notes[0]
    for _, part in splits.items():
        assert set(part["label"]) == {"no", "yes"}


def test_given_split_folders_are_kept(label_folder, tmp_path):
    folder = tmp_path / "given"
    for name in ("train", "dev", "test"):
        shutil.copytree(label_folder, folder / name)
    splits = load_splits(folder)
    assert [len(part) for _, part in splits.items()] == [16, 16, 16]
    assert splits.speakers_apart is False and "more than one of the given parts" in splits.notes[0]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_metadata_file_with_labels_speakers_and_splits(label_folder, suffix):
    files = sorted(label_folder.rglob("*.wav"))
    rows = [
        {"file_name": str(file.relative_to(label_folder)), "word": file.parent.name, "who": file.name[0]}
        for file in files
    ]
    for row in rows:
        row["split"] = {"c": "validation", "d": "test"}.get(row["who"], "train")
    with open(label_folder / f"metadata.{suffix}", "w", newline="") as stream:
        if suffix == "csv":
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        else:
            stream.writelines(json.dumps(row) + "\n" for row in rows)
    splits = load_splits(label_folder, label_column="word", speaker_column="who")
    assert [sorted(set(part["speaker"])) for _, part in splits.items()] == [["a", "b"], ["c"], ["d"]]
    assert splits.notes == () and splits.speakers_apart


def test_parquet_of_bytes_and_of_audio_structs_give_the_same_recordings(label_folder, tmp_path):
    files = sorted(label_folder.rglob("*.wav"))
    labels = [file.parent.name for file in files]
    Dataset.from_dict({"audio": [file.read_bytes() for file in files], "label": labels}).to_parquet(
        str(tmp_path / "bytes.parquet")
    )
    structs = Dataset.from_dict({"audio": [{"bytes": file.read_bytes(), "path": file.name} for file in files]})
    structs = structs.cast_column("audio", Audio(decode=False)).add_column("label", labels)
    structs.to_parquet(str(tmp_path / "structs.parquet"))
    plain = load_rows(tmp_path / "bytes.parquet")
    wrapped = load_rows(tmp_path / "structs.parquet")
    assert wrapped["item"][0] == files[0].name and plain["item"][0] == "pool row 0"
    for left, right, file in zip(plain, wrapped, files, strict=True):
        expected = soundfile.read(file, dtype="float32")[0]
        np.testing.assert_array_equal(load_waveform(left["audio"]), expected)
        np.testing.assert_array_equal(load_waveform(right["audio"]), expected)


def test_parquet_paths_are_relative_to_their_folder(label_folder):
    files = sorted(label_folder.rglob("*.wav"))
    table = {"audio": [str(f.relative_to(label_folder)) for f in files], "label": [f.parent.name for f in files]}
    Dataset.from_dict(table).to_parquet(str(label_folder / "all.parquet"))
    rows = load_rows(label_folder / "all.parquet")
    assert load_waveform(rows[3]["audio"]).shape == (4800,)


def test_parquet_of_units_by_file_name_with_class_names(tmp_path):
    features = Features(
        {"units": List(Value("int16")), "label": ClassLabel(names=["down", "up"]), "speaker": Value("string")}
    )
    for name, rows in (("train", 8), ("validation-00000-of-00001", 4), ("noise", 2)):
        table = {"units": [[1, 2]] * rows, "label": [0, 1] * (rows // 2), "speaker": ["a"] * rows}
        Dataset.from_dict(table, features=features).to_parquet(str(tmp_path / f"{name}.parquet"))
    splits = load_splits(tmp_path)
    assert splits.kind == "units" and splits.labels == ("down", "up")
    assert [len(part) for _, part in splits.items()] == [6, 4, 2]
    assert "noise.parquet" in splits.notes[0] and "one speaker" in splits.notes[1]


def test_several_label_columns_are_joined(tmp_path):
    write_units(tmp_path / "train.parquet", 12, action=[0, 1] * 6, place=[5, 5, 6, 6] * 3)
    splits = load_splits(tmp_path, label_column=["action", "place"])
    assert splits.labels == ("0 5", "0 6", "1 5", "1 6")


def refusals(tmp_path):
    write_units(tmp_path / "one.parquet", 6, label=["a"] * 6)
    write_units(tmp_path / "hole.parquet", 6, label=["a", "b", None, "a", "b", "a"], id=[f"row{n}" for n in range(6)])
    write_units(tmp_path / "plain.parquet", 6, word=["a", "b"] * 3)
    write_units(tmp_path / "none.parquet", 0, label=[])
    for name, labels in (("train", ["a", "b"]), ("test", ["a", "c"])):
        (tmp_path / "unseen").mkdir(exist_ok=True)
        write_units(tmp_path / "unseen" / f"{name}.parquet", 8, label=labels * 4)
    write_units(tmp_path / "alone.parquet", 6, label=list("aabbab"), speaker=list("xxyyxy"))
    (tmp_path / "empty").mkdir()
    return [
        ("./nowhere", {}, "no folder or file './nowhere'"),
        (tmp_path / "nowhere.parquet", {}, "no folder or file"),
        ("nowhere", {}, "no folder here, the Hub must not be asked, and it is not in the cache"),
        (tmp_path / "empty", {}, "holds no recordings"),
        (tmp_path / "one.parquet", {}, "one label 'a'"),
        (tmp_path / "hole.parquet", {}, "no label in column 'label', first 'row2'"),
        (tmp_path / "plain.parquet", {}, "no column 'label'; the columns are units, word"),
        (tmp_path / "plain.parquet", {"label_column": "word", "speaker_column": "who"}, "no column 'who'"),
        (tmp_path / "none.parquet", {}, "is empty"),
        (tmp_path / "unseen", {}, "'c' of the test part do not occur in training"),
        (tmp_path / "alone.parquet", {}, "come from too few of the 2 speakers"),
        (tmp_path / "plain.parquet", {"label_column": "word", "test_fraction": 1.5}, "fraction of 1.5"),
    ]


@pytest.mark.parametrize("number", range(12))
def test_refusals_name_the_item(tmp_path, number):
    source, options, words = refusals(tmp_path)[number]
    with pytest.raises(DatasetError) as caught:
        load_splits(source, **options)
    assert words in str(caught.value)


def test_missing_recordings_and_ragged_metadata_are_named(label_folder):
    (label_folder / "metadata.csv").write_text("file_name,label\nno/absent.wav,no\n")
    with pytest.raises(DatasetError, match=r"absent\.wav"):
        load_splits(label_folder)
    (label_folder / "metadata.csv").unlink()
    (label_folder / "metadata.jsonl").write_text('{"file_name": "a", "label": "b"}\n{"file_name": "a"}\n')
    with pytest.raises(DatasetError, match="row 2"):
        load_splits(label_folder)


def test_a_missing_part_is_an_error_for_evaluation(tmp_path):
    for name in ("train", "validation"):
        write_units(tmp_path / f"{name}.parquet", 4, label=["a", "b"] * 2)
    with pytest.raises(DatasetError, match="no part 'test'"):
        load_rows(tmp_path)
    assert len(load_rows(tmp_path, split="validation")) == 4


def test_labels_may_start_with_an_underscore_and_the_noise_of_speech_commands_is_none(label_folder):
    (label_folder / "no").rename(label_folder / "_unknown_")
    for name in ("_background_noise_", ".hidden"):
        shutil.copytree(label_folder / "yes", label_folder / name)
    assert set(load_rows(label_folder)["label"]) == {"_unknown_", "yes"}


def on_the_hub(monkeypatch, **parts):
    from datasets import DatasetDict

    from speechprompt_hf.data import sources

    table = {"units": [[1, 2]] * 20, "label": ["a", "b"] * 10}
    loaded = DatasetDict({name: Dataset.from_dict(table) for name in parts})
    monkeypatch.setattr(sources, "load_dataset", lambda *arguments, **options: loaded)


def test_a_set_whose_only_part_is_test_is_split(monkeypatch):
    on_the_hub(monkeypatch, test=20)
    splits = load_splits("organisation/name")
    assert [len(part) for _, part in splits.items()] == [14, 2, 4]
    assert "the part test alone" in splits.notes[0]


def test_parts_without_train_and_two_spellings_are_refused(monkeypatch):
    on_the_hub(monkeypatch, test=20, validation=20)
    with pytest.raises(DatasetError, match="none to train on"):
        load_splits("organisation/name")
    on_the_hub(monkeypatch, train=20, dev=20, validation=20)
    with pytest.raises(DatasetError, match="'dev' and 'validation' both mean validation"):
        load_splits("organisation/name")


def test_unknown_parts_are_noted(monkeypatch):
    on_the_hub(monkeypatch, train=20, test=20, invalidated=20)
    assert "invalidated" in load_splits("organisation/name").notes[0]


def test_metadata_at_the_top_speaks_for_the_folders_below(label_folder):
    for name in ("train", "test"):
        (label_folder / name).mkdir()
    files = sorted(label_folder.rglob("*.wav"))
    lines = ["file_name,label"]
    for number, file in enumerate(files):
        part = "test" if number % 4 == 0 else "train"
        file.rename(label_folder / part / f"{number}.wav")
        lines.append(f"{part}/{number}.wav,{'odd' if number % 8 > 3 else 'even'}")
    (label_folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    splits = load_splits(label_folder)
    assert splits.labels == ("even", "odd") and len(splits.test) == 4


def test_recordings_of_a_kind_that_is_not_read_leave_a_note(label_folder):
    folder = next(path for path in sorted(label_folder.iterdir()) if path.is_dir())
    (folder / "telephone.M4A").write_bytes(b"x")
    notes = load_splits(label_folder).notes
    assert any("1 file(s)" in note and "telephone.M4A" in note for note in notes)


def test_a_set_without_parts_has_no_validation_part(label_folder):
    with pytest.raises(DatasetError, match="has no part 'validation'"):
        load_rows(label_folder, split="validation")


def test_recordings_of_a_kind_that_is_not_read_are_named_when_there_are_no_others(tmp_path):
    for name in ("yes/b.m4a", "yes/a.m4a", "no/c.aac"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DatasetError, match=r"3 file\(s\) of a kind that is not read, first .*no/c\.aac"):
        load_splits(tmp_path)


def test_the_options_of_a_split_make_it_again(label_folder):
    first = load_splits(label_folder, speaker_column="", seed=3, test_fraction=0.4)
    again = load_splits(label_folder, **first.options)
    assert [part["item"] for _, part in again.items()] == [part["item"] for _, part in first.items()]
    assert first.carved == again.carved == ("validation", "test")
    assert first.map_parts(lambda _, rows: rows).options == first.options
