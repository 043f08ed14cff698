"""A converted vocoder makes the audio of fairseq's own `CodeHiFiGANVocoder`, whole batches of it at once."""

import pytest
import torch

from speechprompt_hf import UnitHifiGan
from speechprompt_hf.convert.hifigan import convert_hifigan
from tests.fixtures.vocoders import padded
from tests.golden.make_hifigan import (
    SPEAKERS,
    UNITS,
    WIDTH,
    fairseq_waveform,
    open_vocoder,
    random_generator,
    vocoder_settings,
    write_checkpoint,
)

# fairseq and what it imports warn of much at import.
pytestmark = pytest.mark.filterwarnings("ignore")
TOLERANCE = 1e-4
LENGTHS = (7, 1, 25, 2, 12)
VOICES = {"multispkr": "_", "num_speakers": SPEAKERS, "model_in_dim": 2 * WIDTH}
# The settings of speech-resynthesis' hubert100_dw1.0.json, those of fairseq's released vocoder of HuBERT's units.
RELEASED = {
    "num_embeddings": 100,
    "embedding_dim": 128,
    "model_in_dim": 128,
    "code_hop_size": 320,
    "upsample_rates": [5, 4, 4, 2, 2],
    "upsample_kernel_sizes": [11, 8, 8, 4, 4],
    "upsample_initial_channel": 512,
    "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5]] * 3,
    "dur_predictor_params": {
        "encoder_embed_dim": 128,
        "var_pred_hidden_dim": 128,
        "var_pred_kernel_size": 3,
        "var_pred_dropout": 0.5,
    },
}


@pytest.fixture(scope="module", autouse=True)
def fairseq():
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("fairseq.models.text_to_speech.vocoder", reason="fairseq is not installed")


def random_rows(num_units, lengths=LENGTHS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(num_units, (length,), generator=generator).tolist() for length in lengths]


@pytest.mark.parametrize(
    ("changes", "lengths"),
    [
        ({}, LENGTHS),
        (VOICES, LENGTHS),
        ({**VOICES, "dur_predictor_params": ...}, LENGTHS),
        ({"upsample_rates": [3], "upsample_kernel_sizes": [3], "code_hop_size": ..., "model_in_dim": 14}, LENGTHS),
        (RELEASED, (30, 11)),
    ],
    ids=["one voice", "voices", "no duration predictor", "one stage", "released settings"],
)
def test_batch_is_what_fairseq_makes_of_each_row(tmp_path, changes, lengths):
    settings = vocoder_settings(**changes)
    vocoder = open_vocoder(*write_checkpoint(random_generator(settings, seed=5).state_dict(), settings, tmp_path))
    convert_hifigan(tmp_path / "g_00500000", tmp_path / "vocoder", tmp_path / "config.json")
    model = UnitHifiGan.from_pretrained(tmp_path / "vocoder")
    rows = random_rows(model.config.vocab_size, lengths)
    speakers = torch.arange(len(rows)) % SPEAKERS if "multispkr" in settings else None
    ids, mask = padded(rows)
    for predict in (True, False) if "dur_predictor_params" in settings else (False,):
        with torch.no_grad():
            batch = model(ids, mask, speaker_ids=speakers, predict_durations=predict)
        for index, row in enumerate(rows):
            expected = fairseq_waveform(vocoder, row, predict, None if speakers is None else int(speakers[index]))
            found = batch.waveform[index, : batch.waveform_lengths[index]]
            assert found.shape == expected.shape
            assert expected.std() > 0.01
            assert (found - expected).abs().max() < TOLERANCE


def test_negative_codes_that_fairseq_drops_are_those_to_mask(tmp_path):
    settings = vocoder_settings()
    vocoder = open_vocoder(*write_checkpoint(random_generator(settings, seed=6).state_dict(), settings, tmp_path))
    convert_hifigan(tmp_path / "g_00500000", tmp_path / "vocoder", tmp_path / "config.json")
    model = UnitHifiGan.from_pretrained(tmp_path / "vocoder")
    units = torch.tensor([[3, -1, 5, 22, -1]])
    with torch.no_grad():
        found = model(units, units >= 0).waveform[0]
    expected = fairseq_waveform(vocoder, units[0].tolist(), True)
    assert (found - expected).abs().max() < TOLERANCE


def test_the_golden_file_is_what_the_script_makes(tmp_path):
    """Random weights from a seed, so that the file can be made again."""
    from safetensors import safe_open

    from tests.golden.make_hifigan import GOLDEN, SETTINGS

    with safe_open(GOLDEN, "pt") as file:
        for seed, (name, settings) in enumerate(SETTINGS.items()):
            for key, value in random_generator(settings, seed).state_dict().items():
                assert torch.equal(file.get_tensor(f"{name}/generator/{key}"), value), key
    assert SETTINGS["one_voice"]["num_embeddings"] == UNITS
