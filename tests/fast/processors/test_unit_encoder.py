import copy
import pickle

import numpy as np
import pytest
import torch

from speechprompt_hf.core.errors import AudioTooShortError, ConfigurationError, FingerprintMismatchError
from speechprompt_hf.processors import Quantizer, UnitEncoder, UnitEncoderDescription
from speechprompt_hf.processors.unit_encoder import ENCODER_FOLDER
from tests.fixtures.speech_encoders import unit_encoder, wave_encoder, waveforms, whisper_encoder


@pytest.fixture(scope="module")
def encoder():
    return unit_encoder()


def reload(encoder, folder, **changes):
    encoder.save(folder)
    description = {**encoder.description.to_dict(), **changes}
    return UnitEncoder(description, location=str(folder))


def test_units_merge_frames_and_keep_durations(encoder):
    waves = waveforms([16000, 8000])
    frames = encoder.encode_frames(waves)
    sequences = encoder.encode(waves)
    assert [len(row) for row in frames] == [49, 24] == [encoder.num_frames(len(wave)) for wave in waves]
    for row, sequence in zip(frames, sequences, strict=True):
        assert np.array_equal(sequence.frames, row)
        assert (np.diff(sequence.units) != 0).all()
    assert len(set(frames[0])) > 3  # centroids of the encoder's own frames: the units are not all the same


def test_padded_tensors_and_lists_give_the_same(encoder):
    waves = waveforms([16000, 9000, 400])
    padded = torch.zeros(3, 20000)
    for row, wave in enumerate(waves):
        padded[row, : len(wave)] = torch.from_numpy(wave)
        padded[row, len(wave) :] = 7.0  # padding is not read
    before = padded.clone()
    assert encoder.encode(padded, torch.tensor([16000, 9000, 400])) == encoder.encode(waves)
    assert torch.equal(padded, before)


def test_half_precision_input_is_encoded_in_float32(encoder):
    waves = [torch.from_numpy(wave).half() for wave in waveforms([8000])]
    assert encoder.encode(waves) == encoder.encode([wave.float() for wave in waves])


def test_autocast_around_the_encoder_changes_nothing(encoder):
    waves = waveforms([16000, 9000])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = encoder.features(waves)
        frames = encoder.encode_frames(waves)
    for left, right in zip(inside, encoder.features(waves), strict=True):
        assert left.dtype == torch.float32 and torch.equal(left, right)
    for left, right in zip(frames, encoder.encode_frames(waves), strict=True):
        assert np.array_equal(left, right)


def test_features_can_be_trained_on(encoder):
    (features,) = encoder.features(waveforms([8000]))
    assert features.dtype == torch.float32
    torch.nn.Linear(48, 2)(features).sum().backward()


def test_short_rows_are_named(encoder):
    with pytest.raises(AudioTooShortError, match=r"item 1 has samples of shape \(399,\), one frame needs 400"):
        encoder.encode(waveforms([400, 399]))


def test_numbers_of_samples_must_match_the_rows(encoder):
    with pytest.raises(ConfigurationError, match="2 rows came with 1"):
        encoder.encode(waveforms([400, 400]), [400])


@pytest.mark.parametrize("tail", [0, 100, 400, 3000])
def test_long_recordings_are_encoded_chunk_by_chunk(tail):
    chunk = 6400
    chunked = unit_encoder(chunk_samples=chunk)
    (wave,) = waveforms([3 * chunk + tail])
    parts = [wave[start : start + chunk] for start in range(0, 3 * chunk, chunk)]
    if tail < 400:
        parts[-1] = wave[2 * chunk :]
    else:
        parts.append(wave[3 * chunk :])
    expected = np.concatenate(chunked.encode_frames(parts))
    (actual,) = chunked.encode_frames([wave])
    assert np.array_equal(actual, expected)
    assert len(actual) == chunked.num_frames(len(wave))
    assert torch.equal(chunked.features([wave])[0], torch.cat(chunked.features(parts)))


def test_whisper_reads_windows_and_drops_incomplete_frames():
    whisper = unit_encoder("whisper")
    assert whisper.description.chunk_samples == 32000
    (wave,) = waveforms([64000 + 5000])
    (frames,) = whisper.encode_frames([wave])
    assert len(frames) == 200 + 5000 // 320
    assert np.array_equal(frames[100:200], whisper.encode_frames([wave[32000:64000]])[0])


def test_whisper_refuses_chunks_longer_than_its_window():
    with pytest.raises(ConfigurationError, match="reads 32000 at once"):
        UnitEncoder.from_model(
            whisper_encoder(), torch.zeros(2, 48), layer=1, normalization="none", chunk_samples=40000
        )


def test_fingerprint_covers_everything_that_changes_units():
    base = unit_encoder().fingerprint
    assert set(base) >= {"encoder_id", "revision", "layer", "normalization", "encoder_sha256", "centroids_sha256"}
    others = [
        unit_encoder(layer=1),
        unit_encoder(normalization="unit_rms"),
        unit_encoder(chunk_samples=8000),
        unit_encoder(num_units=19),
        unit_encoder("hubert_large"),
    ]
    digests = {base["digest"], *(other.fingerprint["digest"] for other in others)}
    assert len(digests) == 6


def test_fingerprint_does_not_depend_on_the_encoders_name():
    assert unit_encoder(encoder_id="a").fingerprint["digest"] == unit_encoder(encoder_id="b").fingerprint["digest"]


def test_weights_are_read_at_first_use_and_checked(encoder, tmp_path):
    loaded = reload(encoder, tmp_path)
    assert not loaded.is_loaded
    assert loaded.fingerprint == encoder.fingerprint
    assert (loaded.num_units, loaded.min_samples, loaded.hop_samples) == (20, 400, 320)
    assert not loaded.is_loaded
    assert loaded.encode(waveforms([9000])) == encoder.encode(waveforms([9000]))
    assert loaded.is_loaded


def test_other_centroids_are_refused_naming_both_fingerprints(encoder, tmp_path):
    loaded = reload(encoder, tmp_path)
    Quantizer(encoder.quantizer.centroids + 1e-3).save(tmp_path / "quantizer.safetensors")
    with pytest.raises(FingerprintMismatchError) as error:
        loaded.encode(waveforms([9000]))
    assert encoder.fingerprint["digest"] in str(error.value)
    found = UnitEncoder(
        UnitEncoderDescription(layer=2, normalization="none", encoder_id="hubert_base"), location=str(tmp_path)
    ).fingerprint["digest"]
    assert found in str(error.value)
    assert found != encoder.fingerprint["digest"]


def test_other_encoder_weights_are_refused(encoder, tmp_path):
    loaded = reload(encoder, tmp_path)
    wave_encoder("hubert_base", seed=5).save_pretrained(tmp_path / ENCODER_FOLDER)
    with pytest.raises(FingerprintMismatchError):
        loaded.load()


def test_a_failed_load_stays_failed(encoder, tmp_path):
    loaded = reload(encoder, tmp_path, fingerprint={"digest": "0" * 64})
    for _ in range(2):
        with pytest.raises(FingerprintMismatchError):
            loaded.encode(waveforms([9000]))
    assert not loaded.is_loaded


def test_copies_leave_the_weights_behind_where_they_can_be_read_again(encoder, tmp_path):
    loaded = reload(encoder, tmp_path).load()
    for clone in (pickle.loads(pickle.dumps(loaded)), copy.deepcopy(loaded)):  # noqa: S301 - our own bytes
        assert not clone.is_loaded
        assert clone.encode(waveforms([9000])) == loaded.encode(waveforms([9000]))
    assert loaded.is_loaded
    assert copy.deepcopy(encoder).is_loaded


def test_an_encoder_without_weights_says_so():
    with pytest.raises(ConfigurationError, match="neither weights nor a place"):
        UnitEncoder({"layer": 1, "normalization": "none"}).load()


def test_sizes_must_fit():
    with pytest.raises(ConfigurationError, match="features have size 48, the centroids 47"):
        UnitEncoder.from_model(wave_encoder("hubert_base"), torch.zeros(3, 47), layer=1, normalization="none")


@pytest.mark.parametrize(
    ("values", "message"),
    [({"layer": 1, "normalization": "loud"}, "normalization 'loud'"), ({"layer": 1}, "normalization")],
)
def test_malformed_descriptions_are_refused(values, message):
    with pytest.raises(ConfigurationError, match=message):
        UnitEncoderDescription.from_dict(values)


def test_descriptions_of_later_versions_are_read():
    description = UnitEncoderDescription.from_dict({"layer": 1, "normalization": "none", "new": 3})
    assert UnitEncoderDescription.from_dict(description.to_dict()) == description
