import io

import numpy as np
import pytest
import soundfile
import torch
from transformers import Wav2Vec2FeatureExtractor

from speechprompt_hf.core.errors import (
    AudioDecodeError,
    AudioError,
    AudioTooShortError,
    AudioValueError,
    ConfigurationError,
    SamplingRateError,
)
from speechprompt_hf.processors import SpeechUnitFeatureExtractor, normalize_waveform
from tests.fixtures.speech_encoders import waveforms


@pytest.fixture
def extractor():
    return SpeechUnitFeatureExtractor()


def test_ragged_recordings_are_padded_with_a_mask(extractor):
    waves = waveforms([900, 500, 700])
    features = extractor(waves, sampling_rate=16000, return_tensors="pt")
    assert features["input_values"].shape == features["attention_mask"].shape == (3, 900)
    assert features["input_values"].dtype == torch.float32
    assert features["attention_mask"].sum(1).tolist() == [900, 500, 700]
    for row, wave in enumerate(waves):
        assert np.array_equal(features["input_values"][row, : len(wave)].numpy(), wave)
        assert not features["input_values"][row, len(wave) :].any()


def test_numpy_and_lists(extractor):
    features = extractor(waveforms([900, 500]), sampling_rate=16000, return_tensors="np")
    assert features["input_values"].dtype == np.float32
    ragged = extractor(waveforms([900, 500]), sampling_rate=16000, padding=False)
    assert [len(row) for row in ragged["input_values"]] == [900, 500]


def test_one_recording_is_a_batch_of_one(extractor):
    (wave,) = waveforms([800])
    for item in (wave, torch.from_numpy(wave), wave.tolist(), [wave], wave[None]):
        assert extractor(item, sampling_rate=16000, return_tensors="pt")["input_values"].shape == (1, 800)


def test_mixed_items(extractor, tmp_path):
    (wave,) = waveforms([8000])
    soundfile.write(tmp_path / "a.wav", wave, 16000, subtype="FLOAT")
    data = (tmp_path / "a.wav").read_bytes()
    items = [
        wave,
        str(tmp_path / "a.wav"),
        tmp_path / "a.wav",
        data,
        {"bytes": data, "path": "x"},
        torch.from_numpy(wave),
    ]
    items.append({"array": wave, "sampling_rate": 16000})
    for row in extractor.waveforms(items, sampling_rate=16000):
        assert np.array_equal(row, wave)


def test_rates_of_arrays_and_files_are_respected(extractor):
    (wave,) = waveforms([8000])
    stream = io.BytesIO()
    soundfile.write(stream, wave, 8000, format="WAV", subtype="FLOAT")
    from_file, from_array = extractor.waveforms([stream.getvalue(), wave], sampling_rate=8000)
    assert len(from_file) == 16000
    assert np.array_equal(from_file, from_array)
    # A file's own rate wins over the rate that arrays have.
    assert len(extractor.waveforms([stream.getvalue()], sampling_rate=16000)[0]) == 16000


def test_arrays_without_rate_are_refused(extractor):
    with pytest.raises(SamplingRateError, match="item 0 is an array without a sampling rate"):
        extractor(waveforms([800]))


def test_zero_mean_unit_variance_is_wav2vec2s():
    (wave,) = waveforms([5000])
    reference = Wav2Vec2FeatureExtractor(do_normalize=True)(wave + 0.3, sampling_rate=16000, return_tensors="np")
    ours = normalize_waveform(wave + np.float32(0.3), "zero_mean_unit_variance")
    assert np.abs(ours - reference.input_values[0]).max() < 1e-5


def test_unit_rms_scales_the_real_samples_only():
    extractor = SpeechUnitFeatureExtractor(normalization="unit_rms")
    loud, quiet = waveforms([5000, 700])
    features = extractor([loud, quiet * np.float32(1e-3)], sampling_rate=16000, return_tensors="np")
    for row, samples in enumerate((5000, 700)):
        assert np.sqrt(np.mean(features["input_values"][row, :samples] ** 2)) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("normalization", ["none", "zero_mean_unit_variance", "unit_rms"])
def test_silence_stays_finite(normalization):
    silent = normalize_waveform(np.zeros(500, np.float32), normalization)
    assert silent.dtype == np.float32
    assert not silent.any()


@pytest.mark.parametrize("normalization", ["zero_mean_unit_variance", "unit_rms"])
def test_long_recordings_are_scaled_as_one(normalization, monkeypatch):
    (wave,) = waveforms([5000])
    whole = normalize_waveform(wave, normalization)
    monkeypatch.setattr("speechprompt_hf.processors.feature_extraction_speech_units._BLOCK_SAMPLES", 777)
    assert np.abs(normalize_waveform(wave, normalization) - whole).max() < 1e-6


def test_none_changes_no_bit():
    (wave,) = waveforms([5000])
    assert normalize_waveform(wave, "none") is wave


def test_unknown_normalization_is_refused():
    with pytest.raises(ConfigurationError, match=r"'loud'.*choose one of none"):
        SpeechUnitFeatureExtractor(normalization="loud")
    with pytest.raises(ConfigurationError, match="'loud'"):
        normalize_waveform(np.zeros(3, np.float32), "loud")


BAD = {
    "empty": (np.zeros(0, np.float32), AudioTooShortError),
    "short": (np.zeros(399, np.float32), AudioTooShortError),
    "nan": (np.full(500, np.nan, np.float32), AudioValueError),
    "infinite": (np.full(500, np.inf, np.float32), AudioValueError),
    "integers": (np.zeros(500, np.int16), AudioValueError),
    "integer list": ([0] * 500, AudioValueError),
    "garbage": (b"garbage", AudioDecodeError),
    "missing file": ("missing.wav", AudioDecodeError),
    "missing path in a row": ({"path": "missing.wav", "bytes": None}, AudioDecodeError),
    "three axes": (np.zeros((1, 1, 500), np.float32), AudioValueError),
    "nothing": ({"path": None, "bytes": None}, AudioDecodeError),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_recordings_are_typed_errors_that_name_the_item(extractor, name):
    item, kind = BAD[name]
    with pytest.raises(kind) as error:
        extractor([waveforms([800])[0], item], sampling_rate=16000)
    assert isinstance(error.value, AudioError)
    assert "item 1" in str(error.value)
    if "missing" in name:
        assert "missing.wav" in str(error.value)


def test_an_empty_list_is_refused(extractor):
    with pytest.raises(AudioValueError, match="the list of recordings is empty"):
        extractor([], sampling_rate=16000)


def test_something_else_is_refused(extractor):
    with pytest.raises(AudioError):
        extractor(object(), sampling_rate=16000)
    with pytest.raises(AudioError, match="item 0"):
        extractor([None], sampling_rate=16000)


def test_config_round_trip(tmp_path):
    extractor = SpeechUnitFeatureExtractor(normalization="unit_rms", min_samples=720, sampling_rate=8000)
    extractor.save_pretrained(tmp_path)
    again = SpeechUnitFeatureExtractor.from_pretrained(tmp_path)
    assert again.to_dict() == extractor.to_dict()
    assert (again.normalization, again.min_samples, again.sampling_rate) == ("unit_rms", 720, 8000)


def test_a_stereo_array_outside_a_list_is_warned_about(extractor):
    stereo = np.stack(waveforms([800, 800]))
    with pytest.warns(UserWarning, match="counts as two recordings"):
        assert len(extractor.waveforms(stereo, 16000)) == 2
    assert len(extractor.waveforms([stereo], 16000)) == 1
