import numpy as np
import pytest
import torch
from transformers import HubertConfig, HubertModel

from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.pretraining.filterbank import NUM_BANDS, initialise_filterbank, mel_filters, student_config


def test_filters_have_unit_norm_and_rising_centres():
    filters = mel_filters(400)
    assert filters.shape == (4 * NUM_BANDS, 400)
    torch.testing.assert_close(filters.norm(dim=1), torch.ones(4 * NUM_BANDS))
    cosines = filters.reshape(NUM_BANDS, 4, 400)[:, 0]
    peaks = torch.fft.rfft(cosines, 16_000).abs().argmax(-1)
    assert abs(int(peaks[0]) - 60) < 60 and abs(int(peaks[-1]) - 7600) < 60
    assert (peaks.diff() > 0).all()


def test_negated_phases_are_negated():
    rows = mel_filters(400).reshape(NUM_BANDS, 4, 400)
    torch.testing.assert_close(rows[:, 0], -rows[:, 1])
    torch.testing.assert_close(rows[:, 2], -rows[:, 3])


def test_a_started_model_tells_tones_apart():
    torch.manual_seed(0)
    model = HubertModel(student_config(num_hidden_layers=1)).eval()
    generator = np.random.default_rng(0)
    initialise_filterbank(model, torch.from_numpy(generator.standard_normal((2, 16_000), dtype=np.float32)))
    seconds = torch.arange(8000) / 16_000
    tones = torch.stack([torch.sin(2 * torch.pi * hertz * seconds) * 1.4 for hertz in (300, 305, 3000)])
    with torch.no_grad():
        first = model.feature_extractor(tones).mean(-1)
    assert (first[0] - first[1]).norm() < 0.3 * (first[0] - first[2]).norm()


def test_frames_and_receptive_field():
    model = HubertModel(student_config(num_hidden_layers=1))
    assert [int(model._get_feat_extract_output_lengths(n)) for n in (719, 720, 1039, 1040)] == [0, 1, 1, 2]


def test_another_front_end_is_refused():
    config = HubertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    with pytest.raises(ConfigurationError, match="two convolutions"):
        initialise_filterbank(HubertModel(config), torch.zeros(1, 1000))
