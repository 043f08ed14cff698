"""Sizes for a hop make that many samples of a frame."""

import math

import pytest
import torch

from speechprompt_hf import UnitHifiGan, UnitHifiGanConfig, UnitVocos, UnitVocosConfig
from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.vocoding.vocoder_sizes import hifigan_rates, sizes_for_hop, spectra_per_frame


@pytest.mark.parametrize(
    ("hop", "rates"),
    [(320, [5, 4, 4, 2, 2]), (640, [5, 4, 4, 4, 2]), (256, [4, 4, 4, 2, 2]), (16, [4, 2, 2]), (441, [7, 7, 3, 3])],
)
def test_rates_of_hifigan(hop, rates):
    assert hifigan_rates(hop) == rates and math.prod(rates) == hop


def test_the_hop_of_hubert_gives_the_published_sizes():
    assert (
        UnitHifiGanConfig(**sizes_for_hop("hifigan", 320)).to_dict()
        == UnitHifiGanConfig(upsample_rates=[5, 4, 4, 2, 2], upsample_kernel_sizes=[11, 8, 8, 4, 4]).to_dict()
    )
    assert UnitVocosConfig(**sizes_for_hop("vocos", 320)).to_dict() == UnitVocosConfig().to_dict()


@pytest.mark.parametrize("hop", [16, 160, 240, 320, 480, 640])
def test_every_architecture_makes_a_hop_of_a_frame(hop):
    small = {"vocab_size": 5, "unit_embed_dim": 4, "duration_predictor_hidden_size": 0}
    vocos = UnitVocos(
        UnitVocosConfig(**small, **sizes_for_hop("vocos", hop), hidden_size=8, intermediate_size=8, num_layers=1)
    )
    hifigan = UnitHifiGan(
        UnitHifiGanConfig(
            **small,
            **sizes_for_hop("hifigan", hop),
            upsample_initial_channel=64,
            resblock_kernel_sizes=[3],
            resblock_dilation_sizes=[[1]],
        )
    )
    for vocoder in (vocos, hifigan):
        assert vocoder(torch.tensor([[1, 2, 3]]), predict_durations=False).waveform.shape == (1, 3 * hop)


def test_impossible_hops_are_refused():
    with pytest.raises(ConfigurationError, match="a hop of 22 samples is no product of small strides"):
        hifigan_rates(22)
    with pytest.raises(ConfigurationError, match="a hop of 321 samples is odd"):
        spectra_per_frame(321)
