"""The second stream on disk and in batches; without one, stores, tables and batches are what they were."""

import sqlite3

import numpy as np
import pytest
from datasets import Dataset

from speechprompt_hf.core.errors import UnitError
from speechprompt_hf.core.units import UnitSequence
from speechprompt_hf.core.vocabulary import UnitVocabulary
from speechprompt_hf.data.collators import UnitCollator, labelled_units
from speechprompt_hf.data.extraction import extract_units
from speechprompt_hf.data.loading import load_rows
from speechprompt_hf.data.unit_store import UnitStore
from speechprompt_hf.tasks import task_from_labels

UNITS, CODES = UnitVocabulary.from_num_units(8), UnitVocabulary.from_num_units(3)


def with_codes(processor):
    """The counting processor with a second stream: the unit modulo 3."""
    plain = processor.encode_units

    def encode_units(waves, sampling_rate=None):
        return [
            UnitSequence(sequence.units, sequence.durations, sequence.units % 3)
            for sequence in plain(waves, sampling_rate=sampling_rate)
        ]

    processor.encode_units = encode_units
    processor.fingerprint = {**processor.fingerprint, "streams_digest": "5" * 64}
    return processor


def tables(path):
    with sqlite3.connect(path) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_stores_without_a_second_stream_have_the_table_they_had(tmp_path):
    store = UnitStore("a" * 64, tmp_path)
    store.put({"x": UnitSequence(np.array([1, 2]), np.array([3, 4]))})
    assert tables(store.path) == {"units"}
    assert store.get(["x"])["x"].prosody is None


def test_stores_give_back_codes_and_only_rows_that_have_them(tmp_path):
    store = UnitStore("b" * 64, tmp_path, with_prosody=True)
    coded = UnitSequence(np.array([1, 2]), np.array([3, 4]), np.array([7, 0]))
    store.put({"x": coded, "y": UnitSequence(np.array([5]), np.array([1]))})
    assert store.get(["x", "y", "z"]) == {"x": coded}
    assert UnitStore("b" * 64, tmp_path, with_prosody=True).get(["x"])["x"].prosody.tolist() == [7, 0]


def test_extraction_adds_the_column_and_reads_it_back(label_folder, processor):
    rows = load_rows(label_folder)
    plain = extract_units(rows, processor)
    assert "prosody" not in plain.dataset.column_names
    both = extract_units(rows, with_codes(processor))
    assert both.num_encoded == len(rows)  # the first stream's cache has no codes
    again = extract_units(rows, processor)
    assert again.num_encoded == 0
    assert again.dataset["prosody"] == both.dataset["prosody"]
    assert again.dataset["units"] == plain.dataset["units"]
    for units, codes in zip(again.dataset["units"], again.dataset["prosody"], strict=True):
        assert codes == [unit % 3 for unit in units]


def test_batches_carry_the_second_stream_where_the_model_reads_it():
    rows = [{"units": [3, 0, 5], "prosody": [2, 0, 1]}, {"units": [7], "prosody": [1]}]
    batch = UnitCollator(UNITS, prosody_vocabulary=CODES)(rows)
    assert batch["prosody_ids"].tolist() == [[2, 6, 4, 5, 0], [2, 5, 0, 1, 1]]
    assert batch["prosody_ids"].shape == batch["input_ids"].shape
    assert (batch["prosody_ids"] == 1).equal(batch["attention_mask"] == 0)
    assert set(UnitCollator(UNITS)(rows)) == {"input_ids", "attention_mask"}


def test_labelled_rows_keep_their_codes():
    rows = Dataset.from_dict({"units": [[3, 0]], "prosody": [[2, 1]], "label": ["b"], "item": ["one"]})
    task = task_from_labels(["a", "b"])
    table = labelled_units(rows, task, UNITS, CODES)
    assert table[0] == {"labels": 1, "length": 4, "input_ids": [2, 7, 4, 0], "prosody_ids": [2, 6, 5, 0]}
    assert UnitCollator(UNITS, prosody_vocabulary=CODES)(table)["prosody_ids"].tolist() == [[2, 6, 5, 0]]
    assert "prosody_ids" not in labelled_units(rows, task, UNITS).column_names
    with pytest.raises(UnitError, match="the rows have no prosody codes"):
        labelled_units(rows.remove_columns("prosody"), task, UNITS, CODES)


def test_missing_unknown_and_misaligned_codes_are_errors():
    collator = UnitCollator(UNITS, prosody_vocabulary=CODES)
    with pytest.raises(UnitError, match="row 0 of the batch has no prosody codes"):
        collator([{"units": [1]}])
    with pytest.raises(UnitError, match=r"a\.wav has 2 units and 1 prosody codes"):
        collator([{"units": [1, 2], "prosody": [0], "item": "a.wav"}])
    with pytest.raises(UnitError, match="unit 3 is not among the 3 units"):
        collator([{"units": [1], "prosody": [3]}])
