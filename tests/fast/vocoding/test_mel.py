"""Mel spectra are those of transformers, and librosa's where it is installed."""

import math

import numpy as np
import pytest
import torch
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.vocoding.mel import LOG_FLOOR, MelSpectrogram, mel_filters


def noise(seed=0, samples=4000):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((1, samples)).astype(np.float32)) / 10


def test_the_spectra_are_those_of_transformers():
    wave = noise()
    bank = mel_filter_bank(513, 80, 0.0, 8000.0, 16000, norm="slaney", mel_scale="slaney")
    edge = (1024 - 256) // 2
    padded = np.pad(wave[0].numpy(), (edge, edge + -4000 % 256))
    expected = spectrogram(
        padded,
        window_function(1024, "hann"),
        1024,
        256,
        power=1.0,
        center=False,
        mel_filters=bank,
        mel_floor=LOG_FLOOR,
    )
    found = MelSpectrogram(16000)(wave)
    assert found.shape == (1, 80, math.ceil(4000 / 256))
    np.testing.assert_allclose(found[0].numpy(), np.log(expected), atol=2e-4)


def test_the_filters_are_those_of_librosa():
    librosa = pytest.importorskip("librosa")
    expected = librosa.filters.mel(sr=16000, n_fft=1024, n_mels=80, fmin=0, fmax=8000)
    np.testing.assert_allclose(mel_filters(16000, 1024, 80).numpy(), expected, atol=1e-6)


def test_the_filters_are_triangles_of_equal_area_on_slaneys_scale():
    """Written out: linear below 1000 Hz, 27 bands a factor of 6.4 above."""

    def hertz(mel):
        return 200 * mel / 3 if mel < 15 else 1000 * math.exp(math.log(6.4) / 27 * (mel - 15))

    top = 15 + 27 * math.log(8) / math.log(6.4)
    edges = [hertz(top * index / 41) for index in range(42)]
    filters = mel_filters(16000, 1024, 40)
    bins = torch.arange(513) * 16000 / 1024
    for band in (0, 5, 20, 39):
        low, centre, high = edges[band : band + 3]
        rising, falling = (bins - low) / (centre - low), (high - bins) / (high - centre)
        expected = torch.minimum(rising, falling).clamp(min=0) * 2 / (high - low)
        torch.testing.assert_close(filters[band], expected.float(), atol=1e-6, rtol=1e-3)


def test_a_tone_lies_in_its_band():
    time = torch.arange(8000) / 16000
    mel = MelSpectrogram(16000)(0.5 * torch.sin(2 * torch.pi * 1000 * time)[None])[0].mean(dim=1)
    centre = (mel_filters(16000, 1024, 80) * torch.arange(513)).argmax(dim=1)
    assert abs(float(centre[int(mel.argmax())]) * 16000 / 1024 - 1000) < 50


def test_silence_has_a_finite_gradient():
    wave = torch.zeros(1, 2048, requires_grad=True)
    mel = MelSpectrogram(16000)(wave)
    assert torch.allclose(mel, torch.full_like(mel, math.log(LOG_FLOOR)))
    mel.sum().backward()
    assert wave.grad.isfinite().all()


@pytest.mark.parametrize("samples", [1, 255, 256, 257])
def test_short_sound_has_a_spectrum(samples):
    assert MelSpectrogram(16000)(noise(samples=samples)).shape == (1, 80, math.ceil(samples / 256))


def test_impossible_spectra_are_refused():
    with pytest.raises(ConfigurationError, match="80 mel bands are too many for a window of 64 samples"):
        MelSpectrogram(16000, n_fft=64, hop=16)
    with pytest.raises(ConfigurationError, match="a window of 64 samples has a hop of 65"):
        MelSpectrogram(16000, n_fft=64, hop=65)
