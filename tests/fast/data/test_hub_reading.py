"""Data sets of a Hub that nobody answers for: an error at once, a failure and no mistake; the cache is read."""

import errno
import time

import datasets
import huggingface_hub.constants
import pytest
from datasets import Dataset

from speechprompt_hf.core.errors import DatasetError
from speechprompt_hf.data.corpus_opening import open_streams
from speechprompt_hf.data.hub_reading import reading_from_the_hub
from speechprompt_hf.data.sources import read_source

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def waited(monkeypatch, tmp_path):
    """A client that finds nobody; what it would have waited, in seconds."""
    seconds = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    for module in (huggingface_hub.constants, datasets.config):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", NOBODY)
    template = NOBODY + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", NOBODY)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.chdir(tmp_path)
    return seconds


@pytest.mark.parametrize("name", ["org/data", "mistyped"])
@pytest.mark.parametrize("read", [read_source, open_streams])
def test_nobody_answers(waited, read, name):
    with pytest.raises(DatasetError, match=f"{name} is no folder here.* the Hub cannot be reached") as raised:
        read(name)
    assert not raised.value.is_mistake and waited == []
    assert datasets.config.HF_HUB_OFFLINE is False


@pytest.mark.parametrize("read", [read_source, open_streams])
def test_a_hub_that_must_not_be_asked(waited, monkeypatch, read):
    for module in (huggingface_hub.constants, datasets.config):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", True)
    with pytest.raises(DatasetError, match="the Hub must not be asked") as raised:
        read("org/data")
    assert raised.value.is_mistake and waited == []


def test_the_cache_is_read_at_once(waited, tmp_path):
    rows = {"units": [[1, 2], [3]], "label": ["a", "b"]}
    folder = tmp_path / "datasets" / "org___data" / "default" / "0.0.0" / "c0ffee"
    folder.mkdir(parents=True)
    table = Dataset.from_dict(rows)
    writer = datasets.arrow_writer.ArrowWriter(path=str(folder / "data-train.arrow"), features=table.features)
    writer.write_table(table.data.table)
    num_examples, num_bytes = writer.finalize()
    split = {"name": "train", "num_bytes": num_bytes, "num_examples": num_examples, "dataset_name": "data"}
    info = datasets.DatasetInfo(
        features=table.features,
        builder_name="parquet",
        dataset_name="data",
        config_name="default",
        version="0.0.0",
        splits={"train": split},
    )
    info.write_to_directory(str(folder))
    (read,) = read_source("org/data").tables.values()
    assert read.to_dict() == rows and waited == []


@pytest.mark.parametrize(
    ("error", "hint", "is_mistake"),
    [
        (ConnectionResetError("it broke off"), "is busy", False),
        (OSError(errno.ENOSPC, "it broke off"), "make room", False),
        (ValueError("it broke off"), "check the spelling", True),
    ],
)
def test_what_went_wrong_while_files_became_a_table(monkeypatch, error, hint, is_mistake):
    from speechprompt_hf.data import hub_reading

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_reading, "_nobody_answers", lambda name, revision: False)
    expected = pytest.raises(DatasetError, match=f"could be loaded from the Hub: .*{hint}")
    with expected as raised, reading_from_the_hub("org/data"):
        raise RuntimeError("while the table was made") from error
    assert raised.value.is_mistake is is_mistake
