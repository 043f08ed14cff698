"""Shards of a corpus: the units of the whole table, made once, checked when they are there, refused when foreign."""

import errno
import json
import os
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from datasets import Dataset

from speechprompt_hf.core.errors import ConfigurationError, DatasetError, FingerprintMismatchError
from speechprompt_hf.data import corpus_encoding, corpus_files, extract_units, load_rows
from speechprompt_hf.data.corpus_files import read_record
from speechprompt_hf.data.corpus_run import run_corpus
from speechprompt_hf.data.corpus_shards import World
from speechprompt_hf.data.corpus_tables import TableCorpus
from speechprompt_hf.data.unit_identity import check_is_complete, recorded_unit_fingerprint


@pytest.fixture
def folder(label_folder):
    """16 recordings, a corrupt one, a cut one, one too short and one that is there twice, in 20 rows."""
    (label_folder / "no" / "x_nohash_0.wav").write_bytes(b"this is no sound")
    whole = (label_folder / "no" / "a_nohash_0.wav").read_bytes()
    (label_folder / "no" / "x_nohash_1.wav").write_bytes(whole[:-100])
    soundfile.write(label_folder / "yes" / "x_nohash_2.wav", np.zeros(100), 16000)
    (label_folder / "yes" / "x_nohash_3.wav").write_bytes(whole)
    return label_folder


def corpus_of(folder, shard_rows=3):
    return TableCorpus({"all": load_rows(folder)}, shard_rows)


def make(folder, output, processor, world=None, shard_rows=3, **options):
    return run_corpus(corpus_of(folder, shard_rows), processor, output, base="a base", world=world, **options)


def contents(output):
    return {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}


def rows_of(output):
    return Dataset.from_parquet(sorted(map(str, output.glob("*.parquet"))))


def test_shards_are_the_table_of_a_run_without_shards(folder, processor, tmp_path):
    progress, summary = make(folder, tmp_path / "out", processor)
    whole = extract_units(load_rows(folder), processor)
    made = rows_of(tmp_path / "out")
    assert made.features == whole.dataset.features and made.to_dict() == whole.dataset.to_dict()
    assert summary["parts"] == {"all": {"recordings": 17, "skipped": 3, "hours": round(17 * 0.3 / 3600, 4)}}
    skipped = [json.loads(line) for line in (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()]
    assert skipped == [{"part": "all", **vars(skip)} for skip in whole.skips]
    assert [entry["error"] for entry in skipped] == ["AudioDecodeError", "AudioDecodeError", "AudioTooShortError"]
    assert (progress.shards, progress.found) == (7, 0) and progress.seconds == pytest.approx(17 * 0.3)
    assert json.loads((tmp_path / "out" / "units.json").read_text()) == summary
    assert recorded_unit_fingerprint(tmp_path / "out")["digest"] == processor.fingerprint["digest"]
    assert [shard["name"] for shard in summary["shards"]] == sorted(
        path.name for path in (tmp_path / "out").glob("*.p*")
    )


@pytest.mark.parametrize("size", [3, 11])
def test_processes_make_the_same_files_as_one(folder, processor, tmp_path, size):
    make(folder, tmp_path / "one", processor)
    encoded = processor.num_encoded
    summaries = [make(folder, tmp_path / "many", processor, World(rank, size))[1] for rank in range(size)]
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
    assert processor.num_encoded == 2 * encoded
    # Only the last one knows the whole.
    assert summaries[:6] == [None] * min(6, size - 1) + summaries[-1:] * (size - 6 < 1)
    assert summaries[-1]["complete"] is True


def test_until_the_last_shard_is_there_the_summary_says_so(folder, processor, tmp_path):
    make(folder, tmp_path, processor, World(1, 2))
    summary = json.loads((tmp_path / "units.json").read_text())
    assert summary["complete"] is False and summary["fingerprint"] == processor.fingerprint
    assert not (tmp_path / "skipped.jsonl").exists()
    make(folder, tmp_path, processor, World(0, 2))
    assert json.loads((tmp_path / "units.json").read_text())["complete"] is True


def test_a_stopped_run_goes_on_with_another_number_of_processes(folder, processor, tmp_path):
    make(folder, tmp_path / "one", processor)
    before = processor.num_encoded
    make(folder, tmp_path / "out", processor, World(1, 3))
    for rank in range(2):
        progress, _ = make(folder, tmp_path / "out", processor, World(rank, 2))
        assert progress.found == 1
    assert contents(tmp_path / "out") == contents(tmp_path / "one")
    assert processor.num_encoded == 2 * before
    for size in (1, 4):
        progress, summary = make(folder, tmp_path / "out", processor, World(0, size))
        assert (progress.shards, progress.recordings, progress.hours_per_hour) == (0, 0, 0.0) and summary["complete"]
    assert processor.num_encoded == 2 * before


def test_an_interrupted_shard_is_made_again_and_its_traces_go(folder, processor, tmp_path, monkeypatch):
    make(folder, tmp_path / "one", processor)
    output = tmp_path / "out"
    encode, shards = processor.encode_units, []

    def stops(waves, sampling_rate=None):
        shards.append(len(waves))
        if len(shards) == 4:
            raise KeyboardInterrupt
        return encode(waves, sampling_rate=sampling_rate)

    monkeypatch.setattr(processor, "encode_units", stops)
    with pytest.raises(KeyboardInterrupt):
        make(folder, output, processor)
    assert len(list(output.glob("*.parquet"))) == 3
    # What processes killed while they wrote leave behind, and what another program keeps there.
    for name in (".all-00003-of-00007.parquet.ab12.parquet", ".units.json.x_3.json", ".all-00009.parquet.a.parquet"):
        (output / name).write_bytes(b"half")
        os.utime(output / name, (time.time() - 4000,) * 2)
    progress, _ = make(folder, output, processor)
    (output / ".all-00009.parquet.a.parquet").unlink()
    assert progress.shards == 4 and progress.found == 3
    assert contents(output) == contents(tmp_path / "one")


@pytest.mark.parametrize("damage", ["cut", "empty", "changed"])
def test_damaged_shards_are_made_again_with_a_remark(folder, processor, tmp_path, damage):
    output = tmp_path / "out"
    make(folder, output, processor)
    whole = contents(output)
    victim = output / "all-00002-of-00007.parquet"
    data = bytearray(whole[victim.name])
    # The middle of the first pages: the end of the file, which is read first, stays as it was.
    data[20] ^= 0xFF
    victim.write_bytes({"cut": data[:-50], "empty": b"", "changed": bytes(data)}[damage])
    said = []
    progress, _ = make(folder, output, processor, on_note=said.append)
    assert progress.shards == 1 and contents(output) == whole
    (remark,) = said
    assert str(victim) in remark and "damaged" in remark and "made again" in remark


def test_shards_of_another_processor_are_refused_before_anything_is_encoded(folder, processor, tmp_path):
    make(folder, tmp_path, processor, World(0, 2))
    encoded = processor.num_encoded
    processor.fingerprint = {"digest": "e" * 64, "encoder_id": "another"}
    # Also by the process whose shards are not there yet.
    with pytest.raises(FingerprintMismatchError) as caught:
        make(folder, tmp_path, processor, World(1, 2))
    assert "dddddddddddddddd" in str(caught.value) and "another (eeeeeeeeeeeeeeee)" in str(caught.value)
    assert "all-00000-of-00007.parquet" in str(caught.value)
    assert processor.num_encoded == encoded


def test_shards_of_other_rows_are_refused(folder, processor, tmp_path):
    make(folder, tmp_path, processor, World(0, 2))
    soundfile.write(folder / "no" / "a_nohash_0.wav", np.zeros(3200), 16000)
    with pytest.raises(FingerprintMismatchError, match=r"00000-of-00007.*other rows.*'digest'.*'digest'"):
        make(folder, tmp_path, processor)


def test_a_moved_corpus_is_the_same_corpus(folder, processor, tmp_path):
    make(folder, tmp_path / "out", processor)
    folder.rename(tmp_path / "elsewhere")
    progress, _ = make(tmp_path / "elsewhere", tmp_path / "out", processor)
    assert progress.shards == 0


def test_other_sizes_of_shards_in_the_same_folder_are_refused(folder, processor, tmp_path):
    make(folder, tmp_path, processor, shard_rows=4)
    with pytest.raises(DatasetError, match=r"all-00000-of-00005.*no shard of this run.*'shard_rows': 3"):
        make(folder, tmp_path, processor)
    # The same number of shards with other borders.
    for path in tmp_path.glob("all-*"):
        path.unlink()
    make(folder, tmp_path, processor, World(3, 4), shard_rows=6)
    with pytest.raises(FingerprintMismatchError, match=r"\[18, 20\].*\[15, 20\]"):
        make(folder, tmp_path, processor, shard_rows=5)


def test_tables_of_another_program_are_refused(folder, processor, tmp_path):
    Dataset.from_dict({"units": [[1, 2]]}).to_parquet(str(tmp_path / "all-00001-of-00007.parquet"))
    with pytest.raises(DatasetError, match=r"00001-of-00007\.parquet is no shard of `speechprompt units`"):
        make(folder, tmp_path, processor)
    (tmp_path / "all-00001-of-00007.parquet").rename(tmp_path / "noise.parquet")
    with pytest.raises(DatasetError, match=r"noise\.parquet is no shard of this run"):
        make(folder, tmp_path, processor)


def test_a_full_disk_is_an_error_that_says_what_to_do(folder, processor, tmp_path, monkeypatch):
    make(folder, tmp_path / "one", processor)
    writer, calls = corpus_files.pq.ParquetWriter, []

    def full(path, *arguments, **options):
        calls.append(path)
        if len(calls) == 3:
            path.write_bytes(b"PAR1")
            raise OSError(errno.ENOSPC, "No space left on device")
        return writer(path, *arguments, **options)

    monkeypatch.setattr(corpus_files.pq, "ParquetWriter", full)
    with pytest.raises(ConfigurationError, match=r"00002-of-00007.*No space left.*finished shards are kept"):
        make(folder, tmp_path / "out", processor)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "all-00000-of-00007.parquet",
        "all-00001-of-00007.parquet",
        "units.json",
    ]
    make(folder, tmp_path / "out", processor)
    assert contents(tmp_path / "out") == contents(tmp_path / "one")


def test_a_shard_without_a_usable_recording_is_an_empty_one(tmp_path, processor):
    rows = {"audio": [b"junk", b"more", b"junk"], "label": ["a", "b", "a"], "speaker": [None] * 3, "item": list("xyz")}
    good = tmp_path / "good.wav"
    soundfile.write(good, np.ones(3200) / 2, 16000)
    table = Dataset.from_dict({**rows, "audio": [b"junk", b"more", good.read_bytes()]})
    _, summary = run_corpus(TableCorpus({"train": table}, 1), processor, tmp_path / "out", base="b")
    assert [shard["recordings"] for shard in summary["shards"]] == [0, 0, 1]
    assert list(rows_of(tmp_path / "out")["item"]) == ["z"]
    with pytest.raises(DatasetError, match="not one of 3 recordings can be used, first 'x'"):
        run_corpus(TableCorpus({"train": Dataset.from_dict(rows)}, 2), processor, tmp_path / "none", base="b")


def test_what_is_no_corpus_of_recordings_is_refused():
    with pytest.raises(DatasetError, match="no rows"):
        TableCorpus({"all": Dataset.from_dict({"audio": []})}, 10)
    with pytest.raises(DatasetError, match="holds units already"):
        TableCorpus({"all": Dataset.from_dict({"units": [[1]]})}, 10)
    with pytest.raises(DatasetError, match="no column 'audio', only sound"):
        TableCorpus({"all": Dataset.from_dict({"sound": [b""]})}, 10)


def test_rows_without_names_are_called_by_their_number(label_folder, processor, tmp_path):
    data = [path.read_bytes() for path in sorted(label_folder.rglob("*.wav"))]
    table = Dataset.from_dict({"audio": [*data, b"junk"]})
    run_corpus(TableCorpus({"all": table}, 5), processor, tmp_path / "out", base="b")
    whole = extract_units(table, processor)
    assert rows_of(tmp_path / "out").to_dict() == whole.dataset.to_dict()
    assert read_record(tmp_path / "out" / "all-00003-of-00004.parquet").skipped == whole.skips


def test_windows_do_not_change_units(folder, processor, tmp_path, monkeypatch):
    make(folder, tmp_path / "one", processor, shard_rows=20)
    monkeypatch.setattr(corpus_encoding, "_WINDOW_ROWS", 3)
    make(folder, tmp_path / "rows", processor, shard_rows=20)
    monkeypatch.setattr(corpus_encoding, "_WINDOW_SAMPLES", 4800)
    make(folder, tmp_path / "samples", processor, shard_rows=20)
    assert contents(tmp_path / "one") == contents(tmp_path / "rows") == contents(tmp_path / "samples")


def test_progress_counts_only_what_is_encoded_now(folder, processor, tmp_path):
    make(folder, tmp_path, processor, World(0, 2))
    seen = []
    progress, _ = make(
        folder, tmp_path, processor, on_progress=lambda now: seen.append((now.recordings, round(now.seconds, 2)))
    )
    assert seen == sorted(seen) and seen[-1][0] == progress.recordings < 17
    assert progress.seconds == pytest.approx(0.3 * progress.recordings)
    assert progress.hours_per_hour == pytest.approx(progress.seconds / progress.elapsed)


def test_a_shard_says_what_it_holds(folder, processor, tmp_path):
    make(folder, tmp_path, processor)
    record = read_record(tmp_path / "all-00001-of-00007.parquet")
    assert record.source["rows"] == [3, 6] and record.fingerprint == processor.fingerprint
    assert record.rows == pq.read_metadata(tmp_path / "all-00001-of-00007.parquet").num_rows
    assert {"speechprompt-hf", "torch", "datasets"} <= record.versions.keys()


def flip_a_byte(path):
    """In the middle of the first pages: the end of the file, which is read first, stays as it was."""
    data = bytearray(path.read_bytes())
    data[20] ^= 0xFF
    path.write_bytes(data)


def is_complete(output):
    return json.loads((output / "units.json").read_text())["complete"]


def test_shards_hold_the_second_stream_as_extract_units_gives_it(folder, prosody_processor, tmp_path):
    make(folder, tmp_path / "out", prosody_processor)
    whole = extract_units(load_rows(folder), prosody_processor).dataset
    made = rows_of(tmp_path / "out")
    assert made.features == whole.features and made.to_dict() == whole.to_dict()
    assert {code for row in made["prosody"] for code in row} == {0, 1}
    rows = {"audio": [b"junk", (folder / "no" / "a_nohash_0.wav").read_bytes()]}
    run_corpus(TableCorpus({"all": Dataset.from_dict(rows)}, 1), prosody_processor, tmp_path / "half", base="b")
    assert [len(row) for row in rows_of(tmp_path / "half")["prosody"]] == [len(made[0]["units"])]


def test_units_beside_other_prosody_are_refused(folder, processor, prosody_processor, tmp_path):
    make(folder, tmp_path, prosody_processor)
    with pytest.raises(FingerprintMismatchError) as caught:
        make(folder, tmp_path, type(prosody_processor)(streams_digest="7" * 64))
    assert "an encoder (dddddddddddddddd, with prosody 5555555555555555)" in str(caught.value)
    assert "an encoder (dddddddddddddddd, with prosody 7777777777777777)" in str(caught.value)
    with pytest.raises(FingerprintMismatchError, match=r"5555\), this run makes those of .*, without prosody\)"):
        make(folder, tmp_path, processor)
    with pytest.raises(FingerprintMismatchError, match=r"without prosody\), this run makes those of .*5555\)"):
        make(folder, tmp_path / "one", processor)
        make(folder, tmp_path / "one", prosody_processor)


def test_shards_that_lack_their_second_stream_are_made_again(folder, prosody_processor, tmp_path):
    make(folder, tmp_path, prosody_processor)
    whole, victim = contents(tmp_path), tmp_path / "all-00001-of-00007.parquet"
    pq.write_table(pq.read_table(victim).drop(["prosody"]), victim)
    said = []
    make(folder, tmp_path, prosody_processor, on_note=said.append)
    assert said == [f"{victim} is damaged: it lacks the column prosody: it is made again"]
    assert contents(tmp_path) == whole


def test_a_corpus_that_lacks_a_shard_is_not_complete_any_more(folder, processor, tmp_path):
    make(folder, tmp_path, processor)
    (tmp_path / "all-00002-of-00007.parquet").unlink()
    _, summary = make(folder, tmp_path, processor, World(1, 2))
    assert summary is None and is_complete(tmp_path) is False
    with pytest.raises(DatasetError, match="has not finished"):
        check_is_complete(tmp_path)
    make(folder, tmp_path, processor, World(0, 2))
    assert is_complete(tmp_path) is True


def test_a_corpus_is_not_complete_while_a_damaged_shard_is_made_again(folder, processor, tmp_path, monkeypatch):
    make(folder, tmp_path, processor)
    whole = contents(tmp_path)
    flip_a_byte(tmp_path / "all-00002-of-00007.parquet")

    def dies(waves, sampling_rate=None):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(processor, "encode_units", dies)
        with pytest.raises(KeyboardInterrupt):
            make(folder, tmp_path, processor)
    assert is_complete(tmp_path) is False
    make(folder, tmp_path, processor)
    assert contents(tmp_path) == whole


def test_the_last_process_reads_the_shards_of_the_others(folder, processor, tmp_path):
    make(folder, tmp_path, processor)
    whole, victims = contents(tmp_path), [tmp_path / f"all-0000{number}-of-00007.parquet" for number in (0, 4)]
    for path in victims:
        flip_a_byte(path)
    said = []
    progress, summary = make(folder, tmp_path, processor, World(1, 2), on_note=said.append)
    assert summary is None and progress.shards == 0 and is_complete(tmp_path) is False
    assert [str(path) in line and "start the command again" in line for path, line in zip(victims, said, strict=True)]
    assert make(folder, tmp_path, processor, World(0, 2))[1]["complete"]
    assert contents(tmp_path) == whole


def test_the_last_process_refuses_shards_of_other_rows(folder, processor, tmp_path):
    make(folder, tmp_path, processor, World(0, 2))
    # Row 0, of the first process.
    soundfile.write(folder / "no" / "a_nohash_0.wav", np.zeros(3200), 16000)
    with pytest.raises(FingerprintMismatchError, match=r"00000-of-00007.*other rows.*'digest'.*'digest'"):
        make(folder, tmp_path, processor, World(1, 2))
    assert is_complete(tmp_path) is False


def test_two_runs_at_once_do_not_disturb_each_other(folder, processor, tmp_path, monkeypatch):
    make(folder, tmp_path / "one", processor)
    writer, runs = corpus_files.pq.ParquetWriter, []

    def meanwhile(path, *arguments, **options):
        opened = writer(path, *arguments, **options)
        if not runs:
            # While the first run writes its first shard, a second one makes all of them.
            runs.append("second")
            make(folder, tmp_path / "out", processor)
        return opened

    monkeypatch.setattr(corpus_files.pq, "ParquetWriter", meanwhile)
    _, summary = make(folder, tmp_path / "out", processor)
    assert runs and summary["complete"] and contents(tmp_path / "out") == contents(tmp_path / "one")


def test_a_summary_of_another_plan_does_not_stand_for_these_shards(folder, processor, tmp_path, monkeypatch):
    make(folder, tmp_path, processor)
    summary = json.loads((tmp_path / "units.json").read_text())
    (tmp_path / "units.json").write_text(json.dumps({**summary, "plan": {"shard_rows": 4}}))
    monkeypatch.setattr("speechprompt_hf.data.corpus_run._summary", lambda *_: pytest.fail("killed here"))
    with pytest.raises(pytest.fail.Exception):
        make(folder, tmp_path, processor)
    assert is_complete(tmp_path) is False
