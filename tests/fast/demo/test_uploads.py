"""Files from strangers: refused by their headers, before anything is decoded."""

import shutil
import tracemalloc

import numpy as np
import pytest
import soundfile

from speechprompt_hf.core.errors import (
    AudioDecodeError,
    AudioError,
    AudioTooShortError,
    ConfigurationError,
    SamplingRateError,
)
from speechprompt_hf.demo import UploadLimits, read_upload

LIMITS = UploadLimits(max_seconds=2, max_bytes=100_000)


def write(path, samples, rate=16000):
    soundfile.write(path, np.asarray(samples, dtype=np.float32), rate)
    return path


def test_a_recording_is_read_as_mono_at_the_wanted_rate(tmp_path):
    stereo = np.stack([np.full(8000, 0.5), np.zeros(8000)], axis=1)
    wave = read_upload(write(tmp_path / "a.wav", stereo, 8000), LIMITS, target_rate=16000)
    assert wave.dtype == np.float32 and wave.shape == (16000,)
    assert wave[8000] == pytest.approx(0.25, abs=1e-3)


def test_the_limits_themselves_are_taken(tmp_path):
    path = write(tmp_path / "a.wav", np.zeros(32000))
    limits = UploadLimits(max_seconds=2, max_bytes=path.stat().st_size)
    assert len(read_upload(path, limits, target_rate=16000)) == 32000


def test_a_long_recording_is_refused_without_being_decoded(tmp_path):
    # Ten minutes of silence are a few kilobytes of flac, and 38 MB of samples.
    path = write(tmp_path / "long.flac", np.zeros(600 * 16000))
    assert path.stat().st_size < LIMITS.max_bytes
    tracemalloc.start()
    with pytest.raises(AudioError, match=r"long\.flac lasts 600\.0 s \(at most 2 s"):
        read_upload(path, LIMITS, target_rate=16000)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_a_large_file_is_refused_unread(tmp_path):
    path = tmp_path / "large.wav"
    path.write_bytes(b"no sound at all" * 10_000)
    with pytest.raises(AudioError, match=r"large\.wav has 0\.1 MB, more than 0\.1 MB") as refused:
        read_upload(path, LIMITS, target_rate=16000)
    assert type(refused.value) is AudioError  # not AudioDecodeError: its content was not looked at


def test_many_channels_are_mixed_a_block_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("speechprompt_hf.core.audio_io._VALUES_AT_ONCE", 4_000)
    channels = np.arange(8)[None] / 16 * np.ones((10_000, 1))
    wave = read_upload(write(tmp_path / "wide.flac", channels), LIMITS, target_rate=16000)
    assert wave.shape == (10_000,) and wave[5_000] == pytest.approx(3.5 / 16, abs=1e-3)


@pytest.mark.parametrize("rate", [1, 999, 192_001, 2**31 - 1])
def test_impossible_rates_are_refused(tmp_path, rate):
    path = write(tmp_path / "a.wav", np.zeros(1000))
    content = bytearray(path.read_bytes())
    content[24:28] = rate.to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(SamplingRateError, match=f"rate of {rate} Hz"):
        read_upload(path, LIMITS, target_rate=16000)


def test_a_file_that_hides_its_length_is_decoded_no_further_than_the_limit(tmp_path):
    path = write(tmp_path / "endless.flac", np.zeros(600 * 16000))
    content = bytearray(path.read_bytes())
    # STREAMINFO's number of samples, 36 bits, behind "fLaC" and the header of its block: zero means unknown.
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(AudioError, match=r"endless\.flac"):
        read_upload(path, LIMITS, target_rate=16000)
    assert tracemalloc.get_traced_memory()[1] < 16_000_000  # of 38 MB
    tracemalloc.stop()


def test_damaged_empty_and_missing_files_are_named_without_their_folders(tmp_path):
    good = write(tmp_path / "good.wav", np.zeros(8000))
    (tmp_path / "cut.wav").write_bytes(good.read_bytes()[:5000])
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.mp3").write_text("this is no sound")
    for name, error in (
        ("cut.wav", "truncated"),
        ("empty.wav", "cannot be read as sound"),
        ("text.mp3", "cannot be read as sound"),
        ("absent.wav", "No such file"),
    ):
        with pytest.raises(AudioDecodeError, match=error) as raised:
            read_upload(tmp_path / name, LIMITS, target_rate=16000)
        assert name in str(raised.value) and str(tmp_path) not in str(raised.value)


def test_a_folder_is_no_recording(tmp_path):
    with pytest.raises(AudioDecodeError, match="Is a directory"):
        read_upload(tmp_path, LIMITS, target_rate=16000)


def test_too_short_recordings_are_refused(tmp_path):
    path = write(tmp_path / "a.wav", np.zeros(10))
    with pytest.raises(AudioTooShortError, match=r"a\.wav has 10 samples"):
        read_upload(path, LIMITS, target_rate=16000, min_samples=400)


def test_every_cut_of_a_file_is_read_or_refused(tmp_path):
    path = write(tmp_path / "a.ogg", 0.1 * np.random.default_rng(0).standard_normal(4000))
    content = path.read_bytes()
    part = shutil.copy(path, tmp_path / "part.ogg")
    for length in range(0, len(content), max(1, len(content) // 60)):
        with open(part, "wb") as stream:
            stream.write(content[:length])
        with pytest.raises(AudioError):
            read_upload(part, LIMITS, target_rate=16000)


@pytest.mark.parametrize("field", ["max_seconds", "max_bytes"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_limits_are_positive(field, value):
    with pytest.raises(ConfigurationError, match=field):
        UploadLimits(**{field: value})
