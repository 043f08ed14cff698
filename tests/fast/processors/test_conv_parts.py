"""The three replacements that make extraction fast, each against what it replaces, in float64."""

import copy

import pytest
import torch

from speechprompt_hf.processors.conv_stack import BLOCK_FRAMES, conv_features
from speechprompt_hf.processors.frame_geometry import FrameGeometry
from speechprompt_hf.processors.masked_group_norm import fold_group_norm
from speechprompt_hf.processors.positional_conv import FftPositionalConv
from tests.fixtures.speech_encoders import wave_encoder, waveforms


def relative_error(actual, expected):
    return float((actual.double() - expected.double()).norm() / expected.double().norm())


@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("level", [1e-3, 0.1])
@torch.no_grad()
def test_folded_group_norm_is_at_least_as_exact_as_float32(offset, level):
    layer = wave_encoder("hubert_base").feature_extractor.conv_layers[0]
    samples = torch.from_numpy(waveforms([9000])[0]) * level + offset
    weight, bias = fold_group_norm(samples, layer.conv, layer.layer_norm)
    folded = torch.nn.functional.conv1d(samples[None, None], weight, bias, stride=5)
    float32 = layer.layer_norm(layer.conv(samples[None, None]))
    double = copy.deepcopy(layer).double()
    exact = double.layer_norm(double.conv(samples[None, None].double()))
    assert relative_error(folded, exact) < max(2e-6, 3 * relative_error(float32, exact))


@torch.no_grad()
def test_folded_group_norm_of_silence_is_its_bias():
    layer = wave_encoder("hubert_base").feature_extractor.conv_layers[0]
    weight, bias = fold_group_norm(torch.zeros(4000), layer.conv, layer.layer_norm)
    assert torch.isfinite(weight).all()
    assert torch.equal(bias, layer.layer_norm.bias)


@pytest.mark.parametrize("kind", ["hubert_base", "hubert_large", "hubert_two_convolutions"])
@torch.no_grad()
def test_blocks_give_what_the_whole_row_gives(kind, monkeypatch):
    model = wave_encoder(kind)
    geometry = FrameGeometry.from_config(model.config)
    samples = torch.from_numpy(waveforms([320 * 23 + 777])[0])
    expected = model.feature_extractor(samples[None])[0].T
    for block in (1, 4, 7, 1000):
        monkeypatch.setitem(BLOCK_FRAMES, "cpu", block)
        actual = conv_features(model.feature_extractor.conv_layers, geometry, samples)
        assert actual.shape == expected.shape
        assert relative_error(actual, expected) < 2e-6


@pytest.mark.parametrize("num_frames", [1, 2, 63, 64, 128, 129, 130, 300, 517])
@torch.no_grad()
def test_fft_convolution_is_at_least_as_exact_as_the_direct_one(num_frames):
    embedding = wave_encoder("hubert_base").encoder.pos_conv_embed
    assert FftPositionalConv.supports(embedding)
    hidden_states = torch.randn(3, num_frames, 48, generator=torch.Generator().manual_seed(0))
    exact = copy.deepcopy(embedding).double()(hidden_states.double())
    fft = FftPositionalConv(embedding)
    assert relative_error(fft(hidden_states), exact) < 1e-6
    # What runs on other devices.
    assert torch.equal(fft.activation(fft._direct(hidden_states)), embedding(hidden_states))


def test_short_or_unusual_convolutions_are_left_alone():
    assert not FftPositionalConv.supports(wave_encoder("hubert_two_convolutions").encoder.pos_conv_embed)
    assert not FftPositionalConv.supports(wave_encoder("hubert_batch_norm").encoder.pos_conv_embed)
    assert not FftPositionalConv.supports(wave_encoder("data2vec").encoder.pos_conv_embed)
    assert not FftPositionalConv.supports(None)
