import numpy as np
import pytest
import torch

from speechprompt_hf.core import audio_io
from speechprompt_hf.core.audio_io import load_waveform, resample, resample_tensor
from speechprompt_hf.core.errors import SamplingRateError
from speechprompt_hf.core.extras import torchaudio_is_usable


def chirp(rate):
    time = np.arange(rate // 2) / rate
    return (0.5 * np.sin(2 * np.pi * (200 + 3000 * time) * time)).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 44100])
def test_torchaudio_agrees_with_soxr(rate):
    if not torchaudio_is_usable():
        pytest.skip("torchaudio is not installed here")
    wave = chirp(rate)
    ours, soxr = resample_tensor(torch.from_numpy(wave), rate, 16000).numpy(), resample(wave, rate, 16000)
    assert ours.dtype == np.float32 and abs(len(ours) - len(soxr)) <= 1
    # Ends apart: the two filters treat what lies outside differently.
    inner = slice(400, 7600)
    assert np.abs(ours[inner] - soxr[inner]).max() < 2e-3


def test_without_torchaudio_it_is_soxr(monkeypatch):
    monkeypatch.setattr(audio_io, "torchaudio_is_usable", lambda: False)
    wave = chirp(8000)
    assert np.array_equal(resample_tensor(torch.from_numpy(wave), 8000, 16000).numpy(), resample(wave, 8000, 16000))


def test_equal_rates_change_nothing_and_impossible_ones_are_refused():
    wave = torch.from_numpy(chirp(8000))
    assert torch.equal(resample_tensor(wave, 8000, 8000), wave)
    with pytest.raises(SamplingRateError, match="0 Hz"):
        resample_tensor(wave, 0, 8000)


def test_tensors_on_a_device_are_resampled_there():
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU here")
    wave = torch.from_numpy(chirp(8000)).cuda()
    expected = resample_tensor(wave, 8000, 16000).cpu().numpy()
    assert np.array_equal(load_waveform(wave, sampling_rate=8000), expected)
