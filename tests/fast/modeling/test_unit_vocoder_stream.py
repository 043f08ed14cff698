"""A stream is one pass, however its units arrive and whatever the vocoder; sound starts before the last unit."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechprompt_hf.core.errors import ConfigurationError, UnitError
from speechprompt_hf.modeling.unit_vocoder_stream import UnitVocoderStream
from tests.fixtures.vocoders import UNITS, tiny_vocoder, tiny_vocos

TOLERANCE = 1e-4  # the promise is 1e-3
VOCODERS = {
    "hifigan": tiny_vocoder(),
    "vocos": tiny_vocos(),
    "voices": tiny_vocos(num_speakers=2),
    "without durations": tiny_vocos(duration_predictor_hidden_size=0),
    "short": tiny_vocos(num_layers=0, num_fine_layers=0, kernel_size=1, duration_predictor_kernel_size=1),
}
UNIT_ROWS = st.lists(st.integers(0, UNITS - 1), min_size=1, max_size=60)


def one_pass(vocoder, units, **options):
    with torch.no_grad():
        return vocoder(torch.tensor([units]), **options).waveform[0]


@pytest.mark.parametrize("name", ["hifigan", "vocos", "short"])
@settings(max_examples=25, deadline=None)
@given(units=UNIT_ROWS, chunk_frames=st.integers(1, 40), predict=st.booleans())
def test_a_stream_is_one_pass(name, units, chunk_frames, predict):
    vocoder = VOCODERS[name]
    chunks = list(vocoder.generate_stream(units, predict_durations=predict, chunk_frames=chunk_frames))
    expected = one_pass(vocoder, units, predict_durations=predict)
    assert torch.cat(chunks).shape == expected.shape
    assert (torch.cat(chunks) - expected).abs().max() < TOLERANCE
    assert all(len(chunk) >= chunk_frames * vocoder.hop_length for chunk in chunks[:-1])


@settings(max_examples=20, deadline=None)
@given(units=UNIT_ROWS, data=st.data())
def test_a_stream_with_durations_is_one_pass(units, data):
    vocoder = VOCODERS["without durations"]
    durations = data.draw(st.lists(st.integers(1, 9), min_size=len(units), max_size=len(units)))
    pairs = list(zip(units, durations, strict=True))
    found = torch.cat(list(vocoder.generate_stream(pairs, chunk_frames=3)))
    expected = one_pass(vocoder, units, durations=torch.tensor([durations]))
    assert found.shape == expected.shape and (found - expected).abs().max() < TOLERANCE


@settings(max_examples=15, deadline=None)
@given(units=UNIT_ROWS, given_ones=st.sets(st.integers(0, 59)))
def test_some_durations_may_be_given(units, given_ones):
    vocoder = VOCODERS["vocos"]
    durations = vocoder.predict_durations(torch.tensor([units]))[0].tolist()
    for index in given_ones & {*range(len(units))}:
        durations[index] = 2
    stream = UnitVocoderStream(vocoder, chunk_frames=2)
    chunks = [stream.push(unit, 2 if index in given_ones else None) for index, unit in enumerate(units)]
    found = torch.cat([*chunks, stream.finish()])
    expected = one_pass(vocoder, units, durations=torch.tensor([durations]))
    assert found.shape == expected.shape and (found - expected).abs().max() < TOLERANCE


def test_a_stream_has_a_voice():
    vocoder, units = VOCODERS["voices"], [1, 2, 3, 4] * 8
    found = torch.cat(list(vocoder.generate_stream(units, speaker_id=1)))
    assert (found - one_pass(vocoder, units, speaker_ids=torch.tensor([1]))).abs().max() < TOLERANCE
    assert (found - one_pass(vocoder, units, speaker_ids=torch.tensor([0]))).abs().max() > 0.01


@pytest.mark.parametrize("name", ["hifigan", "vocos"])
def test_sound_starts_before_the_last_unit_is_known(name):
    vocoder, taken = VOCODERS[name], []

    def units():
        for index in range(300):
            taken.append(index)
            yield index % UNITS

    stream = vocoder.generate_stream(units(), predict_durations=False, chunk_frames=5)
    first = next(stream)
    behind = vocoder.config.receptive_field_frames[1]
    assert len(first) == 5 * vocoder.hop_length and len(taken) == 5 + behind
    for count, chunk in enumerate(stream, start=2):
        if len(taken) < 300:
            assert len(chunk) == 5 * vocoder.hop_length and len(taken) == 5 * count + behind


def test_what_a_stream_keeps_is_bounded():
    vocoder = VOCODERS["vocos"]
    stream = UnitVocoderStream(vocoder, chunk_frames=4)
    kept = []
    for index in range(400):
        stream.push(index % UNITS)
        kept.append(len(stream._frames) + len(stream._units))
    assert max(kept[200:]) <= max(kept[:200])


def test_units_may_be_tensors_and_numpy():
    import numpy as np

    vocoder, units = VOCODERS["vocos"], [3, 1, 4, 1, 5]
    expected = torch.cat(list(vocoder.generate_stream(units)))
    for row in (torch.tensor(units), np.array(units)):
        assert torch.equal(torch.cat(list(vocoder.generate_stream(row))), expected)


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        (UNITS, f"unit {UNITS}, number 2 of the stream, is not among the {UNITS} units from 0 to {UNITS - 1}"),
        (-1, "unit -1, number 2"),
        (0.5, "unit 0.5"),
        (float("nan"), "unit nan"),
        ("3", "unit '3'"),
        (True, "unit True"),
        (None, "unit None"),
        ((3, 0), "the duration of unit number 2 of the stream is 0"),
        ((3, 1.5), "is 1.5"),
        ((3, "2"), "is '2'"),
    ],
)
def test_unusable_units_are_refused(unit, words):
    with pytest.raises(UnitError, match=re.escape(words)):
        list(VOCODERS["vocos"].generate_stream([1, 2, unit]))


def test_a_stream_without_units_is_refused():
    with pytest.raises(UnitError, match="the stream has no units"):
        list(VOCODERS["vocos"].generate_stream([]))


def test_a_finished_stream_takes_no_more():
    stream = UnitVocoderStream(VOCODERS["vocos"])
    stream.push(1)
    stream.finish()
    with pytest.raises(UnitError, match="this stream is finished"):
        stream.push(2)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("vocos", {"chunk_frames": 0}, "chunk_frames is 0"),
        ("vocos", {"chunk_frames": 1.5}, "chunk_frames is 1.5"),
        ("vocos", {"speaker_id": 0}, "a single voice"),
        ("voices", {}, "2 voices, and none was named"),
        ("voices", {"speaker_id": 2}, "speaker 2 of row 0 is unknown"),
        ("without durations", {}, "no duration predictor"),
    ],
)
def test_unusable_options_are_refused(name, options, words):
    with pytest.raises(ConfigurationError, match=words):
        list(VOCODERS[name].generate_stream([1, 2], **options))
