"""Corpora that are read as they come: Parquet and the Hub, in blocks of their files, with the rows of a table."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datasets import Audio, ClassLabel, Dataset, Features, IterableDataset, IterableDatasetDict, Value

from speechprompt_hf.core.errors import DatasetError, FingerprintMismatchError
from speechprompt_hf.data import corpus_opening, extract_units, load_rows
from speechprompt_hf.data.corpus_files import read_record, write_shard
from speechprompt_hf.data.corpus_opening import open_streams
from speechprompt_hf.data.corpus_run import run_corpus
from speechprompt_hf.data.corpus_shards import World
from speechprompt_hf.data.corpus_stream import Labelling, Stream, StreamCorpus
from speechprompt_hf.data.sources import AUDIO_FEATURE


def write_table(path: Path, recordings: list[Path], label: object = Value("string"), **columns: list) -> Path:
    """Parquet as the Hub has it: recordings as the feature Audio with bytes inside."""
    rows = {
        "audio": [{"bytes": recording.read_bytes(), "path": recording.name} for recording in recordings],
        "label": [recording.parent.name for recording in recordings],
        **columns,
    }
    features = {"audio": AUDIO_FEATURE, "label": label, **dict.fromkeys(columns, Value("string"))}
    table = Dataset.from_dict(rows, features=Features(features)).cast_column("audio", Audio(decode=False))
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(str(path))
    return path


@pytest.fixture
def recordings(label_folder):
    files = sorted(label_folder.rglob("*.wav"))
    files[5].write_bytes(b"this is no sound")
    return files


@pytest.fixture
def folder(recordings, tmp_path):
    """16 recordings in files of 7, 3 and 6 rows."""
    for number, (start, stop) in enumerate([(0, 7), (7, 10), (10, 16)]):
        write_table(tmp_path / "tables" / f"train-{number:05d}-of-00003.parquet", recordings[start:stop])
    return tmp_path / "tables"


def corpus_of(folder, shard_rows=3, labelling=None):
    streams = open_streams(folder)
    return StreamCorpus({"all": streams["pool"]}, shard_rows, labelling)


def make(folder, output, processor, world=None, **options):
    return run_corpus(corpus_of(folder, **options), processor, output, base="b", world=world)


def contents(output):
    return {path.name: path.read_bytes() for path in output.iterdir()}


def rows_of(output):
    return Dataset.from_parquet(sorted(map(str, output.glob("*.parquet"))))


def test_a_stream_gives_the_rows_of_a_table(folder, processor, tmp_path):
    _, summary = make(folder, tmp_path / "out", processor)
    whole = extract_units(load_rows(folder, split="pool"), processor)
    made = rows_of(tmp_path / "out")
    assert made.features == whole.dataset.features and made.to_dict() == whole.dataset.to_dict()
    assert summary["parts"]["all"]["recordings"] == 15 and summary["parts"]["all"]["skipped"] == 1
    names = [shard["name"] for shard in summary["shards"]]
    assert names == [
        f"all-0000{file}-0000{block}.parquet" for file, block in ((0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (2, 1))
    ]


@pytest.mark.parametrize("size", [2, 7])
def test_processes_make_the_same_files_as_one(folder, processor, tmp_path, size):
    make(folder, tmp_path / "one", processor)
    encoded = processor.num_encoded
    for rank in reversed(range(size)):
        make(folder, tmp_path / "many", processor, World(rank, size))
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
    assert processor.num_encoded == 2 * encoded


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_stopped_run_goes_on(folder, processor, tmp_path, size):
    output = tmp_path / "out"
    _, whole = make(folder, output, processor)
    files = contents(output)
    for name in ("all-00000-00001.parquet", "all-00001-00000.parquet", "all-00002-00001.parquet"):
        (output / name).unlink()
    encoded = processor.num_encoded
    made = [make(folder, output, processor, World(rank, size)) for rank in range(size)]
    assert contents(output) == files
    assert sum(progress.shards for progress, _ in made) == 3 and processor.num_encoded == encoded + 2 + 3 + 3
    assert made[-1][1] == whole


def test_a_finished_stream_is_not_read_again(folder, processor, tmp_path, monkeypatch):
    make(folder, tmp_path / "out", processor)
    corpora = [corpus_of(folder) for _ in range(6)]
    monkeypatch.setattr(IterableDataset, "__iter__", lambda self: pytest.fail("the stream was read"))
    for rank, corpus in enumerate(corpora):
        progress, summary = run_corpus(corpus, processor, tmp_path / "out", base="b", world=World(rank, 6))
        assert progress.shards == 0 and summary["complete"]


def test_a_changed_file_is_another_source(folder, recordings, processor, tmp_path):
    make(folder, tmp_path / "out", processor)
    write_table(folder / "train-00001-of-00003.parquet", recordings[7:9])
    with pytest.raises(FingerprintMismatchError, match=r"00001-00000.*'rows': 3.*'rows': 2"):
        make(folder, tmp_path / "out", processor)
    with pytest.raises(FingerprintMismatchError, match=r"'shard_rows': 3.*'shard_rows': 4"):
        make(folder, tmp_path / "out", processor, shard_rows=4)


def test_files_of_a_table_are_no_shards_of_a_stream(folder, processor, tmp_path):
    make(folder, tmp_path / "out", processor)
    (tmp_path / "out" / "all-00000-00000.parquet").rename(tmp_path / "out" / "all-00003-00000.parquet")
    with pytest.raises(DatasetError, match=r"all-00003-00000\.parquet is no shard of this run"):
        make(folder, tmp_path / "out", processor)


def test_a_file_without_rows_is_done_when_it_was_read(recordings, processor, tmp_path):
    write_table(tmp_path / "tables" / "a.parquet", recordings[:2])
    with pq.ParquetWriter(tmp_path / "tables" / "b.parquet", pq.read_schema(tmp_path / "tables" / "a.parquet")):
        pass
    for _ in range(2):
        _, summary = make(tmp_path / "tables", tmp_path / "out", processor)
        assert [shard["recordings"] for shard in summary["shards"]] == [2, 0]
    assert len(rows_of(tmp_path / "out")) == 2


def test_a_damaged_file_is_an_error_that_names_it(folder, processor, tmp_path):
    path = folder / "train-00001-of-00003.parquet"
    corpus = corpus_of(folder)
    data = bytearray(path.read_bytes())
    data[4:-2000] = bytes(len(data) - 2004)
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"(?s)train-00001-of-00003\.parquet.*cannot be read to its end.*are kept"):
        run_corpus(corpus, processor, tmp_path / "out", base="b")
    assert len(list((tmp_path / "out").glob("*.parquet"))) == 3
    path.write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match=r"00001-of-00003\.parquet cannot be read as Parquet"):
        open_streams(folder)


def test_labels_of_several_columns_and_numbers_become_text(recordings, processor, tmp_path):
    numbered = ClassLabel(names=["no", "yes"])
    said = [f"s{number}" for number in range(16)]
    path = write_table(tmp_path / "t.parquet", recordings, numbered, speaker_id=said, room=["a"] * 16)
    labelling = Labelling(("label", "room"), None)
    make(path, tmp_path / "out", processor, labelling=labelling)
    table = load_rows(path, split="pool", label_column=["label", "room"])
    assert rows_of(tmp_path / "out").to_dict() == extract_units(table, processor).dataset.to_dict()
    assert rows_of(tmp_path / "out")[0]["label"] == "no a" and rows_of(tmp_path / "out")[0]["speaker"] == "s0"
    with pytest.raises(DatasetError, match="no column 'mood'"):
        make(path, tmp_path / "other", processor, labelling=Labelling(("mood",)))


def test_rows_without_labels_keep_their_columns(recordings, processor, tmp_path):
    rows = {"audio": [path.read_bytes() for path in recordings[:4]], "text": list("abcd")}
    Dataset.from_dict(rows).to_parquet(str(tmp_path / "t.parquet"))
    make(tmp_path / "t.parquet", tmp_path / "out", processor, shard_rows=2)
    made = rows_of(tmp_path / "out")
    assert list(made["text"]) == list("abcd") and "item" not in made.column_names and "audio" not in made.column_names


def test_paths_in_tables_start_from_their_folder(recordings, processor, tmp_path, label_folder):
    names = [str(path.relative_to(label_folder)) for path in recordings]
    Dataset.from_dict({"audio": names, "label": names}).to_parquet(str(label_folder / "t.parquet"))
    _, summary = make(label_folder / "t.parquet", tmp_path / "out", processor)
    assert summary["parts"]["all"]["recordings"] == 15


def test_parts_are_those_of_a_table(recordings, tmp_path):
    write_table(tmp_path / "a" / "train.parquet", recordings[:4])
    write_table(tmp_path / "a" / "noise.parquet", recordings[4:5])
    assert set(open_streams(tmp_path / "a")) == {"pool"}
    assert len(open_streams(tmp_path / "a")["pool"].files) == 1
    write_table(tmp_path / "a" / "dev-0.parquet", recordings[4:6])
    assert set(open_streams(tmp_path / "a")) == {"train", "validation"}
    write_table(tmp_path / "b" / "train" / "x.parquet", recordings[:4])
    write_table(tmp_path / "b" / "test" / "x.parquet", recordings[:4])
    assert set(open_streams(tmp_path / "b")) == {"train", "test"}


def test_recordings_in_files_are_no_stream(label_folder, tmp_path):
    assert open_streams(label_folder) is None
    assert open_streams(tmp_path / "absent") is None


def test_a_column_of_parts_is_refused(recordings, tmp_path):
    path = write_table(tmp_path / "t.parquet", recordings, split=["train"] * 10 + ["test"] * 6)
    with pytest.raises(DatasetError, match="column 'split', which a stream cannot follow"):
        open_streams(path)


def test_units_are_refused(tmp_path):
    Dataset.from_dict({"units": [[1, 2]]}).to_parquet(str(tmp_path / "t.parquet"))
    with pytest.raises(DatasetError, match="holds units already"):
        corpus_of(tmp_path / "t.parquet")


def test_the_hub_is_read_at_one_commit(recordings, processor, tmp_path, monkeypatch):
    from types import SimpleNamespace

    import huggingface_hub

    write_table(tmp_path / "t.parquet", recordings)
    local = corpus_opening.load_dataset("parquet", data_files=str(tmp_path / "t.parquet"), streaming=True)
    asked = []

    def load(name, **options):
        asked.append((name, options))
        return IterableDatasetDict({"training": local["train"], "eval": local["train"]})

    monkeypatch.setattr(corpus_opening, "load_dataset", load)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda self, name: SimpleNamespace(sha="c0ffee"))
    streams = open_streams("org/speech")
    assert asked == [("org/speech", {"revision": "c0ffee", "streaming": True})]
    assert set(streams) == {"train", "test"}
    _, summary = run_corpus(StreamCorpus(streams, 10), processor, tmp_path / "out", base="b")
    assert [shard["name"] for shard in summary["shards"]][:2] == [
        "test-00000-00000.parquet",
        "test-00000-00001.parquet",
    ]
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda self, name: SimpleNamespace(sha="decaf"))
    with pytest.raises(FingerprintMismatchError, match=r"'c0ffee'.*'decaf'"):
        run_corpus(StreamCorpus(open_streams("org/speech"), 10), processor, tmp_path / "out", base="b")


def test_a_hub_that_breaks_off_is_a_failure(monkeypatch):
    import datasets
    import huggingface_hub

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)

    def fails(self, name):
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", fails)
    with pytest.raises(DatasetError, match="could be streamed from the Hub: no route") as raised:
        open_streams("org/speech")
    assert not raised.value.is_mistake and "try again" in raised.value.hint


def test_a_stream_without_a_schema_tells_its_columns_by_its_rows(recordings, processor, tmp_path):
    def rows():
        for path in recordings[:4]:
            yield {"audio": {"bytes": path.read_bytes(), "path": path.name}, "speaker": path.name[0]}

    stream = Stream(IterableDataset.from_generator(rows), ({"name": "a generator"},))
    assert stream.rows.features is None
    _, summary = run_corpus(StreamCorpus({"all": stream}, 3), processor, tmp_path / "out", base="b")
    assert summary["parts"]["all"]["recordings"] == 4
    assert list(rows_of(tmp_path / "out")["speaker"]) == ["a", "a", "b", "b"]


def test_a_stream_gives_the_second_stream_of_a_table(folder, prosody_processor, tmp_path):
    make(folder, tmp_path / "out", prosody_processor)
    whole = extract_units(load_rows(folder, split="pool"), prosody_processor).dataset
    made = rows_of(tmp_path / "out")
    assert made.features == whole.features and made.to_dict() == whole.to_dict()


@pytest.mark.parametrize("size", [1, 2])
def test_blocks_of_an_earlier_state_of_a_file_are_refused(recordings, processor, tmp_path, size):
    source, output = tmp_path / "tables" / "a.parquet", tmp_path / "out"
    write_table(source, recordings[:10])
    make(source, output, processor, shard_rows=4)
    write_table(source, recordings[:3])
    (output / "all-00000-00000.parquet").unlink()
    encoded = processor.num_encoded
    for rank in range(size):
        with pytest.raises(
            FingerprintMismatchError, match=r"00000-00001.*'rows': 10.*'rows': 3.*remove the old shards"
        ):
            make(source, output, processor, World(rank, size), shard_rows=4)
    assert processor.num_encoded == encoded
    for path in output.glob("*.parquet"):
        path.unlink()
    _, summary = make(source, output, processor, shard_rows=4)
    assert summary["parts"]["all"]["recordings"] == 3


def test_blocks_behind_the_end_of_a_file_are_refused(folder, processor, tmp_path):
    output = tmp_path / "out"
    make(folder, output, processor)
    name = "all-00001-0000{}.parquet"
    table, record = pq.read_table(output / name.format(0)), read_record(output / name.format(0))
    write_shard(output / name.format(1), table, replace(record, source={**record.source, "block": 1}))
    with pytest.raises(DatasetError, match=r"00001-00001.parquet lies behind all-00001-00000.*remove both") as caught:
        make(folder, output, processor)
    assert type(caught.value) is DatasetError
    for block in (0, 1):
        (output / name.format(block)).unlink()
    assert make(folder, output, processor)[1]["parts"]["all"]["recordings"] == 15


def test_numbers_of_more_than_five_digits_are_numbers(folder, processor, tmp_path):
    corpus = corpus_of(folder)
    assert corpus.owns_name("all-00002-99999.parquet") and corpus.owns_name("all-00002-100000.parquet")
    assert not corpus.owns_name("all-00002-099999.parquet") and not corpus.owns_name("all-00003-00000.parquet")
    assert corpus.source("all-00002-100000.parquet")["block"] == 100_000
    output = tmp_path / "out"
    make(folder, output, processor)
    record = read_record(output / "all-00002-00000.parquet")
    # A file of 100,002 blocks.
    for path in output.glob("all-00002-*.parquet"):
        path.unlink()
    records = {f"all-00002-{block:05d}.parquet": replace(record, is_last=block == 100_001) for block in range(100_002)}
    assert set(corpus.missing(records)) == {"all-00000-00000.parquet", "all-00001-00000.parquet"}
    del records["all-00002-100000.parquet"]
    assert "all-00002-100000.parquet" in corpus.missing(records)
