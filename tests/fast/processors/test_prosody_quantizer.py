"""Prosody codes of merged units: columns, nearest centroids, files."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from speechprompt_hf.core.errors import ConfigurationError, FingerprintMismatchError, UnitError
from speechprompt_hf.processors.frame_geometry import FrameGeometry
from speechprompt_hf.processors.prosody import PitchSettings, ProsodyFrames
from speechprompt_hf.processors.prosody_quantizer import (
    PROSODY_FILE,
    ProsodyDescription,
    ProsodyQuantizer,
    load_prosody_quantizer,
)
from speechprompt_hf.processors.prosody_units import PROSODY_FEATURES, frame_centres, unit_prosody

GEOMETRY = FrameGeometry((400, 3), (160, 2))


def frames_of(f0, level=None, balance=None):
    f0 = np.asarray(f0, dtype=np.float64)
    level = np.zeros_like(f0) if level is None else np.asarray(level, dtype=np.float64)
    balance = np.zeros_like(f0) if balance is None else np.asarray(balance, dtype=np.float64)
    return ProsodyFrames(f0, np.where(f0 > 0, 0.9, 0.1), level, balance)


def column(vectors, name):
    return vectors[:, PROSODY_FEATURES.index(name)]


def quantizer(num_units=9, seed=0):
    return ProsodyQuantizer(np.random.default_rng(seed).standard_normal((num_units, 6)).astype(np.float32))


def test_pitch_is_in_semitones_above_the_speakers_floor():
    f0 = np.repeat([100.0, 200.0, 400.0], 20)
    vectors = unit_prosody(frames_of(f0), np.array([20, 20, 20]), 0.02)
    assert column(vectors, "pitch") == pytest.approx([0, 12, 24])
    assert column(vectors, "voiced") == pytest.approx(1)
    assert column(vectors, "duration") == pytest.approx(np.log2(20))
    # Another speaker, an octave higher: the same codes.
    assert unit_prosody(frames_of(2 * f0), np.array([20, 20, 20]), 0.02) == pytest.approx(vectors)


def test_slope_is_semitones_per_tenth_of_a_second_whatever_the_hop():
    for hop in (0.01, 0.02):
        times = np.arange(round(1 / hop)) * hop
        vectors = unit_prosody(frames_of(100 * 2 ** (times / 1.2)), np.array([len(times)]), hop)
        assert column(vectors, "slope") == pytest.approx(1.0, abs=0.05)


def test_units_with_few_voiced_frames_have_no_pitch():
    f0 = [200, 200, 200, 200, 0, 0, 0, 240, 0, 0]
    vectors = unit_prosody(frames_of(f0), np.array([4, 3, 3]), 0.02)
    assert column(vectors, "voiced") == pytest.approx([1, 0, 1 / 3])
    assert column(vectors, "pitch") == pytest.approx([0, 0, 12 * np.log2(1.2)])
    assert column(vectors, "slope")[1] == 0
    whispered = unit_prosody(frames_of(np.zeros(10)), np.array([4, 6]), 0.02)
    assert not column(whispered, "pitch").any()


def test_level_is_relative_and_bounded_and_silence_is_lowest():
    level = np.repeat([0.0, -10.0, -60.0], [6, 6, 6])
    vectors = unit_prosody(frames_of(np.zeros(18), level, level), np.array([6, 6, 6]), 0.02)
    assert column(vectors, "level") == pytest.approx([0, -10, -40])
    assert column(vectors, "balance") == pytest.approx([0, -10, -60])
    silent = unit_prosody(frames_of(np.zeros(5), np.full(5, -60.0)), np.array([5]), 0.02)
    assert column(silent, "level") == pytest.approx(-40)


def test_one_frame_is_enough():
    vectors = unit_prosody(frames_of([150.0]), np.array([1]), 0.02)
    assert vectors == pytest.approx(np.array([[0, 0, 0, 1, 0, 0]]))


@pytest.mark.parametrize("durations", [[3, 3], [5, 6], [], [0, 10], [-1, 11]])
def test_units_and_frames_must_fit(durations):
    with pytest.raises(UnitError, match="10 frames of prosody met"):
        unit_prosody(frames_of(np.ones(10)), np.array(durations, dtype=np.int64), 0.02)


@pytest.mark.parametrize("num_samples", [720, 5000, 16000, 16719, 16720, 40000])
def test_centres_follow_the_encoders_chunks(num_samples):
    centres = frame_centres(num_samples, GEOMETRY, 16000)
    # Each chunk starts anew: its first frame covers samples 0 to 719 of the chunk.
    expected = []
    bounds = list(range(0, num_samples, 16000))
    if len(bounds) > 1 and num_samples - bounds[-1] < 720:
        bounds.pop()
    for start, end in zip(bounds, [*bounds[1:], num_samples], strict=True):
        first = start
        while first + (400 + 2 * 160) <= end:
            expected.append(first + 360)
            first += 320
    assert centres.tolist() == expected


def test_codes_are_the_nearest_centroids_one_by_one(monkeypatch):
    from speechprompt_hf.processors import prosody_quantizer

    one = quantizer()
    vectors = np.random.default_rng(1).standard_normal((500, 6)) * 4
    expected = []
    for vector in vectors:
        distances = [sum(((vector / one.scales - c).astype(np.float64)) ** 2) for c in one.centroids]
        expected.append(int(np.argmin(distances)))
    assert one.predict(vectors).tolist() == expected
    assert len(set(expected)) > 5
    monkeypatch.setattr(prosody_quantizer, "_BLOCK_UNITS", 7)
    assert one.predict(vectors).tolist() == expected


def test_the_first_of_equally_near_centroids_wins():
    same = ProsodyQuantizer(np.ones((3, 6), dtype=np.float32))
    assert same.predict(np.zeros((2, 6))).tolist() == [0, 0]


def test_file_round_trip_keeps_codes_and_digest(tmp_path):
    one = quantizer()
    one.save(tmp_path / PROSODY_FILE)
    description = ProsodyDescription.from_dict(json.loads(json.dumps(one.description.to_dict())))
    loaded = load_prosody_quantizer(str(tmp_path), description, {})
    assert np.array_equal(loaded.centroids, one.centroids)
    assert loaded.description == one.description == description
    assert quantizer(seed=1).description.digest != one.description.digest
    other_pitch = ProsodyQuantizer(one.centroids, pitch=PitchSettings(max_hz=600))
    assert other_pitch.description.digest != one.description.digest


def test_files_that_do_not_fit_are_refused(tmp_path):
    description = quantizer().description
    with pytest.raises(ConfigurationError, match=r"has no prosody_quantizer\.safetensors"):
        load_prosody_quantizer(str(tmp_path), description, {})
    quantizer(seed=1).save(tmp_path / PROSODY_FILE)
    with pytest.raises(FingerprintMismatchError, match=description.digest):
        load_prosody_quantizer(str(tmp_path), description, {})
    save_file({"other": np.zeros(1, np.float32)}, tmp_path / PROSODY_FILE)
    with pytest.raises(ConfigurationError, match=r"holds \['other'\], not centroids and scales"):
        load_prosody_quantizer(str(tmp_path), description, {})
    (tmp_path / PROSODY_FILE).write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{}")
    with pytest.raises(ConfigurationError, match="the prosody quantizer"):
        load_prosody_quantizer(str(tmp_path), description, {})


def test_descriptions_of_other_versions_and_damaged_ones_are_refused(tmp_path):
    values = quantizer().description.to_dict()
    assert ProsodyDescription.from_dict({**values, "later": 1}) == quantizer().description
    without_digest = {key: value for key, value in values.items() if key != "digest"}
    for damaged in (None, 5, [], without_digest, {**values, "features": 5}, {**values, "num_units": "9"}):
        with pytest.raises(ConfigurationError, match="the block prosody_quantizer is"):
            ProsodyDescription.from_dict(damaged)
    other = ProsodyDescription.from_dict({**values, "features": ["pitch", "timbre"]})
    with pytest.raises(ConfigurationError, match="was made on pitch, timbre; this version measures pitch, slope"):
        load_prosody_quantizer(str(tmp_path), other, {})
    with pytest.raises(FingerprintMismatchError, match=quantizer().description.digest):
        quantizer().save(tmp_path / PROSODY_FILE)
        load_prosody_quantizer(str(tmp_path), ProsodyDescription.from_dict({**values, "num_units": 10**9}), {})
    for pitch in ({"unknown": 1}, {"min_hz": "low"}):
        with pytest.raises(ConfigurationError, match="has pitch"):
            load_prosody_quantizer(str(tmp_path), ProsodyDescription.from_dict({**values, "pitch": pitch}), {})


@pytest.mark.parametrize(
    "centroids",
    [np.zeros((4, 5), np.float32), np.zeros(6, np.float32), np.zeros((0, 6), np.float32), np.zeros((4, 6), int)],
)
def test_malformed_centroids_are_refused(centroids):
    with pytest.raises(ConfigurationError, match="the prosody centroids have shape"):
        ProsodyQuantizer(centroids)


def test_malformed_scales_and_vectors_are_refused():
    with pytest.raises(ConfigurationError, match="not finite"):
        ProsodyQuantizer(np.full((2, 6), np.nan, dtype=np.float32))
    with pytest.raises(ConfigurationError, match="a prosody scale is 0"):
        ProsodyQuantizer(np.ones((2, 6), np.float32), np.zeros(6, np.float32))
    with pytest.raises(ConfigurationError, match=r"vectors of shape \(2, 5\)"):
        quantizer().predict(np.zeros((2, 5)))
