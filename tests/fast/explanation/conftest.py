import numpy as np
import pytest
import torch

from speechprompt_hf.modeling import SpeechPromptForAudioClassification
from speechprompt_hf.processors import SpeechUnitProcessor
from tests.fixtures.tiny_models import tiny_lm
from tests.fixtures.unit_mbarts import tiny_mbart
from tests.fixtures.unit_tasks import save_audio_base


@pytest.fixture(scope="session")
def audio_base(tmp_path_factory):
    return save_audio_base(tmp_path_factory.mktemp("audio_base"))


@pytest.fixture(scope="session")
def audio_model(audio_base):
    """A classifier of recordings on random weights."""
    processor = SpeechUnitProcessor.from_pretrained(audio_base)
    return SpeechPromptForAudioClassification.from_base(
        audio_base, ["high", "low", "$no_{math"], processor=processor, readout="pooled", seed=3
    )


@pytest.fixture
def waveform():
    generator = np.random.default_rng(0)
    pitch = np.repeat(generator.uniform(100, 3000, 8), 1000)
    return (0.3 * np.sin(np.cumsum(2 * np.pi * pitch / 16000)) + 0.01 * generator.standard_normal(8000)).astype(
        np.float32
    )


@pytest.fixture(params=["gslm", "mbart"])
def unit_model(request):
    """Makes classifiers of units on both kinds of bases, whose trained vectors matter."""

    def make(**options):
        lm = tiny_lm(seed=10) if request.param == "gslm" else tiny_mbart(seed=1)
        options = {"num_virtual_tokens": 3, "separator_init": "normal", "seed": 5, **options}
        model = SpeechPromptForAudioClassification.from_base(lm, ["a", "b", "c"], **options)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.verbalizer.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        return model

    return make
