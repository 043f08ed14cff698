"""Prosody codes between the units: one row and one vocabulary for both streams."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoProcessor

from speechprompt_hf.core.errors import ConfigurationError, UnitError
from speechprompt_hf.core.units import UnitSequence, merge_runs
from speechprompt_hf.processors import SpeechUnitProcessor
from speechprompt_hf.processors.prosody_stream import interleave, separate
from tests.fixtures.prosody import RATE, WAVES, quantizer
from tests.fixtures.speech_encoders import unit_encoder

CODES = 16


@pytest.fixture(scope="module")
def beside():
    return SpeechUnitProcessor.from_unit_encoder(unit_encoder("hubert_base"), prosody_quantizer=quantizer(CODES))


@pytest.fixture(scope="module")
def between(beside):
    return SpeechUnitProcessor.from_unit_encoder(
        beside.unit_encoder, prosody_quantizer=quantizer(CODES), interleaved=True
    )


def slow_interleave(units, codes, num_units):
    row, last = [], None
    for unit, code in zip(units, codes, strict=True):
        if code != last:
            row.append(num_units + code)
        row.append(unit)
        last = code
    return row


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3), st.integers(1, 5)), max_size=40))
def test_marks_stand_where_codes_change_and_can_be_taken_out_again(triples):
    units, codes, durations = (
        (np.array(column, dtype=np.int64) for column in zip(*triples, strict=True))
        if triples
        else (np.zeros(0, dtype=np.int64),) * 3
    )
    both = interleave(UnitSequence(units, durations, codes), 10)
    assert both.units.tolist() == slow_interleave(units.tolist(), codes.tolist(), 10)
    assert both.durations.sum() == durations.sum() and len(both.durations) == len(both.units)
    assert both.frames.tolist() == np.repeat(units, durations).tolist()
    assert all(np.array_equal(one, other) for one, other in zip(separate(both.units, 10), (units, codes), strict=True))


def test_units_before_any_mark_have_no_code():
    units, codes = separate([3, 12, 4, 4, 10, 5], 10)
    assert units.tolist() == [3, 4, 4, 5] and codes.tolist() == [-1, 2, 2, 0]


def test_units_alone_cannot_be_interleaved():
    with pytest.raises(UnitError, match="without prosody codes"):
        interleave(UnitSequence(np.array([1]), np.array([1])), 10)


def test_both_streams_are_one_row(beside, between):
    num_units = beside.unit_encoder.num_units
    expected = beside.encode_units(WAVES, sampling_rate=RATE)
    batch = between(WAVES, sampling_rate=RATE, return_tensors="pt", return_units=True)
    assert sorted(batch) == ["attention_mask", "durations", "frame_units", "input_ids", "units"]
    assert between.model_input_names == ["input_ids", "attention_mask"]
    for row, sequence in enumerate(expected):
        tokens = slow_interleave(sequence.units.tolist(), sequence.prosody.tolist(), num_units)
        assert batch["units"][row].tolist() == tokens
        length = int(batch["attention_mask"][row].sum())
        assert batch["input_ids"][row, :length].tolist() == [2, *(unit + 4 for unit in tokens), 0]
        assert np.array_equal(batch["frame_units"][row], sequence.frames)
        assert np.array_equal(merge_runs(batch["frame_units"][row])[0], sequence.units)
    assert len(between.tokenizer) == num_units + CODES + 4
    # One recording at a time, and from the feature extractor's values.
    assert between.encode_units(WAVES[2:3], sampling_rate=RATE)[0].units.tolist() == batch["units"][2].tolist()
    values = between.feature_extractor(WAVES, sampling_rate=RATE, return_tensors="pt")
    sequences = between.units_from_values(values["input_values"], values["attention_mask"])
    assert all(np.array_equal(one.units, two) for one, two in zip(sequences, batch["units"], strict=True))


def test_a_saved_processor_is_the_same(between, tmp_path):
    between.save_pretrained(tmp_path, save_encoder=True)
    opened = AutoProcessor.from_pretrained(tmp_path)
    assert opened.fingerprint == between.fingerprint
    ours, theirs = (p(WAVES, sampling_rate=RATE, return_tensors="pt")["input_ids"] for p in (between, opened))
    assert torch.equal(ours, theirs)
    values = json.loads((tmp_path / "processor_config.json").read_text())
    assert values["prosody_quantizer"]["interleaved"] is True
    values["prosody_quantizer"]["interleaved"] = "yes"
    (tmp_path / "processor_config.json").write_text(json.dumps(values))
    with pytest.raises(ConfigurationError, match="interleaved in the block prosody_quantizer is 'yes'"):
        AutoProcessor.from_pretrained(tmp_path)


def test_language_models_of_the_units_alone_refuse_both(beside, between):
    digests = [p.fingerprint["digest"] for p in (beside, between)]
    assert digests[0] == beside.unit_encoder.fingerprint["digest"] == between.fingerprint["units_digest"]
    assert digests[0] != digests[1]
    assert between.fingerprint["prosody_digest"] == beside.fingerprint["prosody_digest"]
    assert "streams_digest" not in between.fingerprint


def test_what_does_not_fit_is_refused(beside, between):
    with pytest.raises(ConfigurationError, match="number of units is"):
        SpeechUnitProcessor.from_unit_encoder(
            beside.unit_encoder, beside.tokenizer, quantizer(CODES), interleaved=True
        )
    with pytest.raises(ConfigurationError, match="whose units hold them"):
        between.prepare_units([[1, 2]], prosody=[[0, 1]])
