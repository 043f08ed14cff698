"""The pitch tracker against tones, glides, noise and hostile input."""

import numpy as np
import pytest

from speechprompt_hf.core.errors import AudioTooShortError, AudioValueError, ConfigurationError
from speechprompt_hf.processors.prosody import PitchSettings, prosody_frames

RATE = 16000
HOP = 320


def centres(num_samples):
    return 200 + HOP * np.arange((num_samples - 400) // HOP + 1)


def track(wave, **settings):
    return prosody_frames(wave, centres(len(wave)), RATE, PitchSettings(**settings))


def tone(hz, seconds=0.6, tilt=1.0, seed=0):
    """Harmonics up to 7 kHz with random phases, falling by `tilt`; `hz` may be a contour of one value per sample."""
    contour = np.broadcast_to(np.asarray(hz, dtype=np.float64), round(seconds * RATE))
    phase = 2 * np.pi * np.cumsum(contour) / RATE
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, 200)
    count = int(7000 / contour.max())
    wave = sum(np.sin(h * phase + phases[h]) / h**tilt for h in range(1, count + 1))
    return (0.1 * wave / np.abs(wave).max()).astype(np.float32)


@pytest.mark.parametrize("tilt", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("hz", [70.0, 97.3, 130.0, 211.1, 300.0, 397.0, 480.0])
def test_harmonic_tones_are_found_within_one_percent(hz, tilt):
    frames = track(tone(hz, tilt=tilt))
    inner = frames.f0[2:-2]
    assert np.abs(inner / hz - 1).max() < 0.01
    assert frames.periodicity[2:-2].min() > 0.9


def test_a_missing_fundamental_is_heard():
    time = np.arange(RATE) / RATE
    wave = sum(np.sin(2 * np.pi * 150 * h * time + h) for h in range(3, 12)).astype(np.float32)
    assert np.abs(track(wave).f0[2:-2] / 150 - 1).max() < 0.01


@pytest.mark.parametrize(("start", "end"), [(100.0, 200.0), (320.0, 140.0)])
def test_glides_are_followed_without_jumps(start, end):
    contour = np.geomspace(start, end, RATE)
    frames = track(tone(contour, seconds=1.0))
    expected = contour[centres(RATE)]
    assert np.abs(frames.f0 / expected - 1)[2:-2].max() < 0.02
    assert np.abs(12 * np.log2(frames.f0[3:-2] / frames.f0[2:-3])).max() < 1


def test_noise_and_silence_are_unvoiced_and_speech_between_them_is_not():
    generator = np.random.default_rng(0)
    noise = generator.standard_normal(2 * RATE).astype(np.float32)
    assert (track(noise).f0 > 0).mean() < 0.02
    silence = track(np.zeros(RATE, dtype=np.float32))
    assert not silence.f0.any()
    assert not silence.periodicity.any()
    assert (silence.level == -60).all()
    assert not silence.balance.any()
    mixed = np.concatenate([np.zeros(RATE // 2, np.float32), tone(140.0), np.zeros(RATE // 2, np.float32)])
    voiced = track(mixed).f0 > 0
    assert np.flatnonzero(voiced)[[0, -1]] == pytest.approx([25, 53], abs=2)
    assert voiced[27:52].all()


def test_pitch_survives_noise_of_ten_decibels_less():
    wave = tone(165.0, seconds=1.0)
    noise = np.random.default_rng(1).standard_normal(len(wave)) * wave.std() / 10**0.5
    found = track((wave + noise).astype(np.float32)).f0[2:-2]
    assert (found > 0).mean() > 0.95
    assert np.abs(found[found > 0] / 165 - 1).max() < 0.02


@pytest.mark.parametrize("gain", [2.0**-12, 0.37, 1e-4, 1000.0])
def test_a_gain_changes_nothing(gain):
    wave = np.concatenate([tone(120.0), tone(230.0, tilt=2.0), 0.01 * np.random.default_rng(0).standard_normal(4000)])
    one, other = track(wave.astype(np.float64)), track(wave.astype(np.float64) * gain)
    for name in ("f0", "periodicity", "level", "balance"):
        assert np.allclose(getattr(one, name), getattr(other, name), rtol=1e-6, atol=1e-6), name


def test_a_constant_offset_is_not_pitch():
    noise = np.random.default_rng(0).standard_normal(RATE) * 0.01 + 0.5
    assert (track(noise.astype(np.float32)).f0 > 0).mean() < 0.05


def test_level_and_balance_are_decibels():
    time = np.arange(RATE) / RATE
    low, high = np.sin(2 * np.pi * 300 * time), np.sin(2 * np.pi * 3000 * time)
    loud = np.concatenate([low, 0.1 * low]).astype(np.float32)
    level = track(loud).level
    assert level[5:45] == pytest.approx(0, abs=0.1)
    assert level[55:95] == pytest.approx(-20, abs=0.1)
    assert track((low + 0.1 * high).astype(np.float32)).balance[3:-3] == pytest.approx(-20, abs=0.2)
    assert track(high.astype(np.float32)).balance[3:-3] == pytest.approx(40)


def test_long_recordings_are_analysed_block_by_block_with_the_same_result(monkeypatch):
    from speechprompt_hf.processors import prosody

    wave = tone(np.geomspace(90, 260, 2 * RATE), seconds=2.0)
    whole = track(wave)
    monkeypatch.setattr(prosody, "_BLOCK_FRAMES", 7)
    pieces = track(wave)
    for name in ("f0", "periodicity", "level", "balance"):
        assert np.array_equal(getattr(whole, name), getattr(pieces, name)), name


@pytest.mark.parametrize("num_samples", [400, 401, 719, 720, 1000])
def test_recordings_of_one_frame_and_a_little_more(num_samples):
    frames = track(tone(200.0)[:num_samples])
    assert len(frames) == (num_samples - 400) // HOP + 1
    assert np.isfinite(frames.f0).all()


@pytest.mark.parametrize("seed", range(12))
def test_whatever_samples_come_values_stay_in_their_ranges(seed):
    generator = np.random.default_rng(seed)
    length = int(generator.integers(400, 9000))
    kinds = [
        generator.standard_normal(length) * 10.0 ** generator.integers(-30, 30),
        np.sign(generator.standard_normal(length)),
        np.ones(length),
        np.eye(1, length, k=length // 2)[0],
        np.clip(5 * tone(150.0)[: min(length, 9000)].astype(np.float64), -0.2, 0.2),
        np.where(generator.random(length) < 0.01, 1e30, 1e-30),
    ]
    wave = kinds[seed % len(kinds)].astype([np.float32, np.float64][seed % 2])
    frames = track(wave)
    assert len(frames) == (len(wave) - 400) // HOP + 1
    voiced = frames.f0 > 0
    assert ((frames.f0[voiced] > 55) & (frames.f0[voiced] < 530)).all()
    assert ((frames.periodicity >= 0) & (frames.periodicity <= 1)).all()
    assert ((frames.level >= -60) & (frames.level <= 0)).all()
    assert (np.abs(frames.balance) <= 40).all()


@pytest.mark.parametrize(
    ("wave", "error", "message"),
    [
        (np.zeros(0, np.float32), AudioTooShortError, "0 samples and 1 frames"),
        (np.zeros((2, 800), np.float32), AudioValueError, r"shape \(2, 800\)"),
        (np.zeros(800, np.int16), AudioValueError, "dtype int16"),
        (np.array([0.0, np.nan] * 400), AudioValueError, "NaN or infinite"),
        (np.full(800, np.inf), AudioValueError, "NaN or infinite"),
    ],
)
def test_impossible_waveforms_are_refused(wave, error, message):
    with pytest.raises(error, match=message):
        prosody_frames(wave, np.array([200]), RATE)


def test_no_frames_and_impossible_settings_are_refused():
    with pytest.raises(AudioTooShortError, match="800 samples and 0 frames"):
        prosody_frames(np.zeros(800), np.zeros(0, dtype=np.int64), RATE)
    with pytest.raises(ConfigurationError, match="1600 Hz is too low a rate for a pitch of 500"):
        prosody_frames(np.zeros(800), np.array([200]), 1600)
    with pytest.raises(ConfigurationError, match="a pitch range from 300 to 200 Hz"):
        PitchSettings(min_hz=300, max_hz=200)
    with pytest.raises(ConfigurationError, match=r"a window of 0\.01 s holds less than 2\.5 periods"):
        PitchSettings(window_seconds=0.01)
