import io

import numpy as np
import pytest
import soundfile
import torch

from speechprompt_hf.core.audio_io import _what_is_missing, check_waveform, load_waveform, read_audio, resample
from speechprompt_hf.core.errors import (
    AudioDecodeError,
    AudioError,
    AudioTooShortError,
    AudioValueError,
    SamplingRateError,
)

RATE = 16000


def tone(seconds=0.5, rate=RATE, hertz=440.0):
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def encoded(samples, rate=RATE, file_format="WAV", subtype=None):
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format=file_format, subtype=subtype)
    return stream.getvalue()


def similarity(one, other):
    length = min(len(one), len(other))
    one, other = one[:length], other[:length]
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_wav_is_read_in_full_scale(subtype):
    samples, rate = read_audio(encoded(tone(), subtype=subtype))
    assert (rate, samples.dtype) == (RATE, np.float32)
    assert np.abs(samples - tone()).max() < 1e-4


@pytest.mark.parametrize(
    ("file_format", "subtype", "rate"),
    [
        ("FLAC", None, RATE),
        ("OGG", "VORBIS", RATE),
        ("OGG", "OPUS", 48000),
        ("MP3", None, 44100),
        ("WAV", "ULAW", 8000),
        ("AIFF", None, RATE),
    ],
)
def test_every_format_gives_the_same_sound_at_16_khz(file_format, subtype, rate):
    data = encoded(tone(rate=rate), rate, file_format, subtype)
    waveform = load_waveform(data)
    assert abs(len(waveform) - RATE // 2) < 2500  # encoders' delay and padding
    middle = waveform[1600:6400]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert np.argmax(spectrum) * RATE / len(middle) == pytest.approx(440, abs=4)
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.05)


def test_path_bytes_file_object_and_audio_values_agree(tmp_path):
    path = tmp_path / "tone.wav"
    path.write_bytes(encoded(tone()))
    expected = load_waveform(str(path))
    with path.open("rb") as stream:
        sources = [path, path.read_bytes(), bytearray(path.read_bytes()), io.BytesIO(path.read_bytes()), stream]
        sources += [{"path": str(path), "bytes": None}, {"path": "gone.wav", "bytes": path.read_bytes()}]
        sources += [{"array": expected, "sampling_rate": RATE, "path": None}]
        for source in sources:
            assert np.array_equal(load_waveform(source), expected)


def test_channels_are_averaged(tmp_path):
    stereo = np.stack([tone(), np.zeros_like(tone())], axis=1)
    assert np.allclose(load_waveform(encoded(stereo, subtype="FLOAT")), tone() / 2, atol=1e-6)
    for array in (stereo, stereo.T, torch.from_numpy(stereo.T.copy())):
        assert np.allclose(load_waveform(array, sampling_rate=RATE), tone() / 2, atol=1e-6)


def test_44_khz_stereo_gives_its_16_khz_mono():
    stereo = np.stack([tone(rate=44100)] * 2, axis=1)
    waveform = load_waveform(encoded(stereo, 44100, subtype="FLOAT"))
    assert len(waveform) == len(tone())
    assert np.abs(waveform - tone())[400:-400].max() < 1e-3


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 48000])
def test_resampling_keeps_length_and_sound(rate):
    waveform = resample(tone(rate=rate), rate, RATE)
    assert abs(len(waveform) - RATE // 2) <= 1
    assert waveform.dtype == np.float32
    assert similarity(waveform, tone()) > 0.999


def test_equal_rates_are_not_touched():
    samples = tone()
    assert resample(samples, RATE, RATE) is samples


@pytest.mark.parametrize("values", [tone().astype(np.float64), torch.from_numpy(tone()), tone().tolist()])
def test_arrays_of_any_floating_type(values):
    waveform = load_waveform(values, sampling_rate=RATE)
    assert waveform.dtype == np.float32
    assert np.allclose(waveform, tone())


def test_tensors_with_gradient_or_half_precision_are_read():
    tensor = torch.from_numpy(tone()).half().float().requires_grad_()
    assert np.allclose(load_waveform(tensor, sampling_rate=RATE), tone(), atol=1e-3)
    assert load_waveform(torch.from_numpy(tone()).bfloat16(), sampling_rate=RATE).dtype == np.float32


def test_the_callers_array_is_not_changed():
    samples = tone()
    before = samples.copy()
    load_waveform(samples, sampling_rate=8000)[:] = 0
    assert np.array_equal(samples, before)


def test_an_array_without_rate_is_an_error():
    with pytest.raises(SamplingRateError, match=r"an array without a sampling rate .*sampling_rate="):
        load_waveform(tone())


@pytest.mark.parametrize("rate", [0, -16000])
def test_impossible_rates_are_an_error(rate):
    with pytest.raises(SamplingRateError, match="impossible"):
        load_waveform(tone(), sampling_rate=rate)


@pytest.mark.parametrize("values", [np.zeros(9, np.int16), torch.zeros(9, dtype=torch.int32), [1, 2, 3], ["a"]])
def test_integer_samples_are_an_error_naming_the_type(values):
    with pytest.raises(AudioValueError, match=r"dtype (int|<U)"):
        load_waveform(values, sampling_rate=RATE)


def test_other_shapes_are_an_error():
    with pytest.raises(AudioValueError, match=r"shape \(2, 2, 2\)"):
        load_waveform(np.zeros((2, 2, 2), np.float32), sampling_rate=RATE)
    with pytest.raises(AudioValueError, match=r"shape \(\)"):
        load_waveform(np.float32(1), sampling_rate=RATE)


def test_missing_corrupt_and_truncated_files_are_errors_naming_the_file(tmp_path):
    good = encoded(tone(), file_format="FLAC")
    (tmp_path / "corrupt.flac").write_bytes(b"fLaC" + bytes(200))
    (tmp_path / "text.wav").write_text("no sound")
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "truncated.flac").write_bytes(good[: len(good) // 2])
    (tmp_path / "folder.wav").mkdir()
    for name in ("corrupt.flac", "text.wav", "empty.wav", "truncated.flac", "folder.wav", "absent.wav"):
        with pytest.raises(AudioDecodeError, match=name):
            load_waveform(str(tmp_path / name))


@pytest.mark.parametrize(
    ("file_format", "subtype"), [("WAV", "PCM_16"), ("FLAC", None), ("OGG", "VORBIS"), ("OGG", "OPUS")]
)
def test_truncated_files_are_errors_although_libsndfile_reads_some(file_format, subtype, tmp_path):
    path = tmp_path / "cut.sound"
    data = encoded(tone(3.0, 48000), 48000, file_format, subtype)
    path.write_bytes(data)
    load_waveform(path)
    path.write_bytes(data[: len(data) * 2 // 3])
    for source in (path, path.read_bytes()):
        with pytest.raises(AudioDecodeError):
            load_waveform(source)
    with pytest.raises(AudioDecodeError, match=r"cut\.sound"):
        load_waveform(path)


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0xFFFFFFFF - 36])
def test_a_wav_from_a_pipe_without_its_length_is_read(length):
    data = bytearray(encoded(tone(), subtype="PCM_16"))
    place = data.index(b"data") + 4
    data[place : place + 4] = length.to_bytes(4, "little")
    assert len(load_waveform(bytes(data))) == len(tone())


class CountingStream(io.BytesIO):
    reads = 0

    def read(self, *arguments):
        self.reads += 1
        return super().read(*arguments)


def test_empty_chunks_of_a_wav_cost_little():
    data = encoded(tone(), subtype="PCM_16")
    few = data[:12] + b"junk\0\0\0\0" * 500 + data[12:]
    assert len(load_waveform(few)) == len(tone())
    with pytest.raises(AudioDecodeError, match="truncated"):
        load_waveform(few[:-1000])
    many = CountingStream(data[:12] + b"junk\0\0\0\0" * 100_000)
    _what_is_missing(many)
    assert many.reads < 2000


def test_an_audio_value_without_content_is_an_error():
    with pytest.raises(AudioDecodeError, match="neither an array, nor bytes, nor a path"):
        load_waveform({"path": None, "bytes": None})


def test_waveforms_are_checked():
    check_waveform(tone(), name="x", min_samples=400)
    with pytest.raises(AudioTooShortError, match="x has 0 samples"):
        check_waveform(np.zeros(0, np.float32), name="x")
    with pytest.raises(AudioTooShortError, match="x has 399 samples, fewer than the 400"):
        check_waveform(tone()[:399], name="x", min_samples=400)
    for value in (np.nan, np.inf, -np.inf):
        samples = tone()
        samples[17] = value
        with pytest.raises(AudioValueError, match="sample 17 of x is"):
            check_waveform(samples, name="x")


def test_every_error_is_one_kind():
    assert issubclass(AudioDecodeError, AudioError)
    assert issubclass(AudioError, ValueError)
