"""The small unit vocoder: its inverse transform is torch's, a batch is its rows alone, its reach is what it says."""

import re

import pytest
import torch
from transformers import AutoConfig, AutoModel

from speechprompt_hf import UnitVocos, UnitVocosConfig
from speechprompt_hf.core.errors import ConfigurationError, UnitError
from tests.fixtures.vocoders import RAGGED_UNITS, UNITS, padded, tiny_vocos, tiny_vocos_config

HOP = 12
TOLERANCE = 1e-5  # of samples between -1 and 1: layers of other shapes add in another order


@pytest.fixture(scope="module")
def vocoder():
    return tiny_vocos()


@pytest.fixture(autouse=True)
def without_gradients(request):
    with torch.set_grad_enabled("gradient" in request.node.name):
        yield


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("predict", [True, False], ids=["merged units", "units of frames"])
def test_batch_equals_rows_alone(vocoder, predict, side):
    ids, mask = padded(RAGGED_UNITS, side)
    batch = vocoder(ids, mask, predict_durations=predict)
    assert batch.waveform.shape == (len(RAGGED_UNITS), int(batch.waveform_lengths.max()))
    for row, units in enumerate(RAGGED_UNITS):
        single = vocoder(torch.tensor([units]), predict_durations=predict)
        length = int(batch.waveform_lengths[row])
        assert single.waveform.shape == (1, length) and length == HOP * int(single.durations.sum())
        assert torch.equal(batch.durations[row][batch.durations[row] > 0], single.durations[0])
        assert 0.01 < single.waveform.std() < 0.5
        assert (batch.waveform[row, :length] - single.waveform[0]).abs().max() < TOLERANCE
        assert not batch.waveform[row, length:].any()


def test_batch_of_several_voices_equals_rows_alone():
    vocoder = tiny_vocos(num_speakers=3)
    ids, mask = padded(RAGGED_UNITS)
    speakers = torch.tensor([2, 0, 1, 1])
    batch = vocoder(ids, mask, speaker_ids=speakers)
    for row, units in enumerate(RAGGED_UNITS):
        single = vocoder(torch.tensor([units]), speaker_ids=speakers[row, None]).waveform[0]
        assert (batch.waveform[row, : len(single)] - single).abs().max() < TOLERANCE
    assert (vocoder(ids, mask, speaker_ids=speakers.flip(0)).waveform - batch.waveform).abs().max() > 0.01


def test_the_size_of_the_default():
    vocoder = UnitVocos(UnitVocosConfig(num_layers=2))
    assert vocoder.generator(torch.zeros(1, 128, 3)).shape == (1, 960)
    default = UnitVocosConfig()
    assert (default.sampling_rate, default.samples_per_frame, default.frame_rate) == (16000, 320, 50.0)
    assert default.receptive_field_frames == (24, 24)
    with torch.device("meta"):
        assert UnitVocos(default).num_parameters() == 3_418_627


def test_the_head_is_an_inverse_short_time_fourier_transform(vocoder):
    """Away from the ends it is torch's, whose windows are centred half a hop earlier."""
    head = vocoder.generator.head
    hidden = torch.randn(2, 30, 16, generator=torch.Generator().manual_seed(0)) / 2
    magnitude, phase = head.projection(hidden).chunk(2, dim=-1)
    spectrum = torch.polar(magnitude.exp().clamp(max=100), phase).transpose(1, 2)
    spectrum.imag[:, [0, -1]] = 0
    expected = torch.istft(spectrum, head.n_fft, head.hop, window=torch.hann_window(head.n_fft), center=True)
    found, half = head(hidden), head.hop // 2
    inner = slice(head.n_fft, -2 * head.n_fft)
    assert found.shape == (2, 30 * head.hop) and 0.05 < found.abs().max() < 1
    assert (found[:, half:][:, : expected.shape[1]][:, inner] - expected[:, inner]).abs().max() < 1e-6


def test_loud_spectra_are_clipped(vocoder):
    head = vocoder.generator.head
    found = head(100 * torch.ones(1, 5, 16))
    assert found.isfinite().all() and found.abs().max() <= 1


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"upsample_rate": 1, "n_fft": 48},
        {"upsample_rate": 3, "n_fft": 16, "num_fine_layers": 2, "kernel_size": 3},
        {"upsample_rate": 2, "n_fft": 36, "num_fine_layers": 0, "num_layers": 0, "kernel_size": 1},
    ],
)
def test_receptive_field_is_exact(sizes):
    vocoder = tiny_vocos(**sizes)
    before, behind = vocoder.config.receptive_field_frames
    middle = 40
    frames = torch.randn(1, 6, 80, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with torch.enable_grad():
        vocoder.generator(frames)[0, middle * HOP : (middle + 1) * HOP].square().sum().backward()
    seen = frames.grad[0].abs().sum(0).nonzero().flatten()
    assert (int(seen[0]), int(seen[-1])) == (middle - before, middle + behind)


def test_gradients_of_a_batch_are_those_of_its_rows():
    vocoder = tiny_vocos()
    ids, mask = padded(RAGGED_UNITS)

    def gradients(outputs):
        vocoder.zero_grad()
        sum(output.waveform.square().sum() for output in outputs).backward()
        return {name: value.grad.clone() for name, value in vocoder.named_parameters() if value.grad is not None}

    together = gradients([vocoder(ids, mask)])
    single = gradients([vocoder(torch.tensor([row])) for row in RAGGED_UNITS])
    assert together.keys() == single.keys() and "generator.head.projection.weight" in together
    for name, value in together.items():
        torch.testing.assert_close(value, single[name], rtol=1e-3, atol=1e-3)


def test_saved_in_half_precision_and_opened_in_float32(vocoder, tmp_path):
    tiny_vocos().half().save_pretrained(tmp_path)
    opened, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert type(opened) is UnitVocos and not any(info.values()) and opened.dtype == torch.float32
    assert type(AutoConfig.from_pretrained(tmp_path)) is UnitVocosConfig
    ids, mask = padded(RAGGED_UNITS)
    durations = vocoder.predict_durations(ids, mask)
    expected = vocoder(ids, mask, durations=durations).waveform
    assert (opened(ids, mask, durations=durations).waveform - expected).abs().max() < 0.01
    half = AutoModel.from_pretrained(tmp_path, dtype=torch.float16)
    assert half.dtype == torch.float16
    found = half(ids, mask, durations=durations).waveform
    assert found.dtype == torch.float32 and (found - expected).abs().max() < 0.05


def test_unusable_units_are_refused(vocoder):
    with pytest.raises(UnitError, match=re.escape(f"unit {UNITS} at column 1 of row 0")):
        vocoder(torch.tensor([[3, UNITS]]))
    with pytest.raises(UnitError, match="row 1 has no units"):
        vocoder(torch.tensor([[3, 4], [1, 2]]), torch.tensor([[1, 1], [0, 0]]))


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"num_layers": -1}, "num_layers is -1"),
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"kernel_size": 4}, "kernel_size has 4"),
        ({"upsample_rate": 5}, "hop_length 12 is no multiple of upsample_rate 5"),
        ({"n_fft": 25}, "n_fft is 25 with 6 samples from one spectrum to the next"),
        ({"n_fft": 12}, "n_fft is 12"),
        ({"upsample_rate": 4, "n_fft": 12}, "give an even multiple of them"),
        ({"duration_predictor_kernel_size": 2}, "duration_predictor_kernel_size has 2"),
        ({"num_layers": 101}, "num_layers is 101 (it is a whole number from 0 to 100)"),
        ({"num_fine_layers": 10**9}, "num_fine_layers is 1000000000"),
        ({"num_layers": 1.5}, "num_layers is 1.5"),
        ({"vocab_size": "x"}, "vocab_size is 'x'"),
        ({"hop_length": [1]}, "hop_length is [1]"),
        ({"n_fft": True}, "n_fft is True"),
        ({"kernel_size": None}, "kernel_size has None"),
        ({"sampling_rate": None}, "sampling_rate is None"),
        ({"sampling_rate": 10**30}, "(it is a whole number from 1 to 384000)"),
        ({"fingerprint": 3}, "fingerprint is 3"),
        ({"duration_predictor_dropout": 5}, "duration_predictor_dropout is 5"),
        ({"duration_predictor_dropout": float("nan")}, "duration_predictor_dropout is nan"),
        ({"initializer_range": "x"}, "initializer_range is 'x'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, words):
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        tiny_vocos_config(**sizes)


def test_attention_of_the_hub_is_not_fetched():
    assert "_attn_implementation" not in UnitVocosConfig.from_dict({"_attn_implementation": "a/kernel"}).to_dict()
