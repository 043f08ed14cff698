"""The unit vocoder: a batch is its rows alone, durations, voices, and what is refused."""

import re
import subprocess
import sys

import pytest
import torch
from transformers import AutoConfig, AutoModel

from speechprompt_hf import UnitHifiGan, UnitHifiGanConfig
from speechprompt_hf.core.errors import ConfigurationError, UnitError
from speechprompt_hf.core.units import merge_runs
from speechprompt_hf.modeling.unit_hifigan_layers import HifiGanGenerator
from tests.fixtures.vocoders import RAGGED_UNITS, UNITS, padded, tiny_vocoder, tiny_vocoder_config

HOP = 10
TOLERANCE = 1e-5  # of samples between -1 and 1: convolutions of other shapes add in another order


@pytest.fixture(scope="module")
def vocoder():
    return tiny_vocoder()


@pytest.fixture(autouse=True)
def without_gradients(request):
    with torch.set_grad_enabled("gradient" in request.node.name):
        yield


def alone(vocoder, units, **options):
    return vocoder(torch.tensor([units]), **options)


def assert_rows_are_alone(vocoder, batch, rows, options_of_row=lambda row: {}):
    assert batch.waveform.dtype == torch.float32
    assert batch.waveform.shape == (len(rows), int(batch.waveform_lengths.max()))
    for index, units in enumerate(rows):
        single = alone(vocoder, units, **options_of_row(index))
        length = int(batch.waveform_lengths[index])
        assert single.waveform.shape == (1, length) and length == HOP * int(single.durations.sum())
        assert torch.equal(batch.durations[index][batch.durations[index] > 0], single.durations[0])
        assert single.waveform.std() > 0.01
        assert (batch.waveform[index, :length] - single.waveform[0]).abs().max() < TOLERANCE
        assert not batch.waveform[index, length:].any()


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("predict", [True, False], ids=["merged units", "units of frames"])
def test_batch_equals_rows_alone(vocoder, predict, side):
    ids, mask = padded(RAGGED_UNITS, side)
    batch = vocoder(ids, mask, predict_durations=predict)
    assert_rows_are_alone(vocoder, batch, RAGGED_UNITS, lambda row: {"predict_durations": predict})
    assert torch.equal(batch.durations > 0, mask.bool())
    if predict:
        assert len(set(batch.durations[mask.bool()].tolist())) > 3


def test_batch_with_given_durations_equals_rows_alone(vocoder):
    generator = torch.Generator().manual_seed(1)
    given = [torch.randint(1, 6, (len(row),), generator=generator).tolist() for row in RAGGED_UNITS]
    (ids, mask), (durations, _) = padded(RAGGED_UNITS), padded(given, filler=-3)
    batch = vocoder(ids, mask, durations=durations)
    assert_rows_are_alone(vocoder, batch, RAGGED_UNITS, lambda row: {"durations": torch.tensor([given[row]])})
    assert batch.waveform_lengths.tolist() == [HOP * sum(row) for row in given]


def test_batch_of_several_voices_equals_rows_alone():
    vocoder = tiny_vocoder(num_speakers=4)
    ids, mask = padded(RAGGED_UNITS)
    speakers = torch.tensor([3, 0, 2, 2])
    batch = vocoder(ids, mask, speaker_ids=speakers)
    assert_rows_are_alone(vocoder, batch, RAGGED_UNITS, lambda row: {"speaker_ids": speakers[row, None]})
    other = vocoder(ids, mask, speaker_ids=speakers.flip(0))
    assert (other.waveform[0] - batch.waveform[0]).abs().max() > 0.01
    assert torch.equal(other.durations, batch.durations)


def test_naive_padding_is_not_exact(vocoder):
    """What the zeroing is for: without it the last samples of a short row depend on its neighbour."""
    frames = torch.randn(2, 6, 30, generator=torch.Generator().manual_seed(0))
    num_frames = torch.tensor([12, 30])
    single = vocoder.generator(frames[:1, :, :12])
    zeroed = frames.masked_fill(torch.arange(30) >= num_frames[:, None, None], 0.0)
    naive = vocoder.generator(zeroed)[:1, : 12 * HOP]
    exact = vocoder.generator(frames, num_frames)[:1, : 12 * HOP]
    assert (naive - single).abs().max() > 0.01
    assert (exact - single).abs().max() < TOLERANCE


def test_padding_may_hold_anything(vocoder):
    ids, mask = padded(RAGGED_UNITS)
    expected = vocoder(ids, mask)
    for filler in (-1, UNITS, 10**9):
        found = vocoder(ids.masked_fill(mask == 0, filler), mask.bool())
        assert torch.equal(found.waveform, expected.waveform) and torch.equal(found.durations, expected.durations)


def test_masked_units_in_between_are_left_out(vocoder):
    found = vocoder(torch.tensor([[3, -1, 7, 1]]), torch.tensor([[1, 0, 1, 1]]))
    assert torch.equal(found.waveform, alone(vocoder, [3, 7, 1]).waveform)
    assert found.durations[0, 1] == 0


def test_frames_and_merged_units_are_the_same_speech(vocoder):
    frames = [3, 3, 3, 7, 1, 1, 10]
    units, durations = merge_runs(frames)
    merged = alone(vocoder, units.tolist(), durations=torch.from_numpy(durations)[None])
    for options in ({"predict_durations": False}, {"durations": torch.ones(1, 7, dtype=torch.int32)}):
        assert torch.equal(alone(vocoder, frames, **options).waveform, merged.waveform)


def test_predicted_durations_can_be_given_back(vocoder):
    ids, mask = padded(RAGGED_UNITS)
    predicted = vocoder(ids, mask)
    durations = vocoder.predict_durations(ids, mask)
    assert torch.equal(durations, predicted.durations) and durations.dtype == torch.int64
    assert torch.equal(vocoder(ids, mask, durations=durations).waveform, predicted.waveform)


def test_durations_are_rounded_and_at_least_one(vocoder):
    logarithms = torch.tensor([[-4.0, 0.0, 1.2, 2.0]])
    vocoder.duration_predictor.register_forward_hook(lambda *_: logarithms)
    try:
        # exp(y) - 1 is -0.98, 0, 2.3 and 6.4
        assert vocoder.predict_durations(torch.tensor([[1, 2, 3, 4]])).tolist() == [[1, 1, 2, 6]]
        logarithms[0, 2] = 30.0
        with pytest.raises(UnitError, match=r"unit 3, number 2 of row 0, is predicted to last 1\d{13}\.0 frames"):
            vocoder.predict_durations(torch.tensor([[1, 2, 3, 4]]))
        logarithms[0, 2] = float("nan")
        with pytest.raises(UnitError, match="nan frames"):
            vocoder(torch.tensor([[1, 2, 3, 4]]))
    finally:
        vocoder.duration_predictor._forward_hooks.clear()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_makes_float32_audio(dtype):
    vocoder = tiny_vocoder()
    ids, mask = padded(RAGGED_UNITS)
    durations = vocoder.predict_durations(ids, mask)
    expected = vocoder(ids, mask, durations=durations).waveform
    found = vocoder.to(dtype)(ids, mask, durations=durations).waveform
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < 0.05


def test_rates():
    vocoder = tiny_vocoder(sampling_rate=8000)
    assert (vocoder.sampling_rate, vocoder.hop_length, vocoder.frame_rate) == (8000, HOP, 800.0)
    default = UnitHifiGanConfig()
    assert (default.sampling_rate, default.hop_length, default.frame_rate) == (16000, 320, 50.0)
    assert default.receptive_field_frames == (21, 21)


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"upsample_rates": (4, 3), "upsample_kernel_sizes": (4, 7), "resblock_kernel_sizes": (1, 3)},
        {"upsample_rates": (2,), "upsample_kernel_sizes": (8,)},
    ],
)
def test_receptive_field_is_exact(sizes):
    vocoder = tiny_vocoder(**sizes)
    before, behind = vocoder.config.receptive_field_frames
    hop, middle = vocoder.hop_length, 40
    frames = torch.randn(1, 6, 80, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with torch.enable_grad():
        vocoder.generator(frames)[0, middle * hop : (middle + 1) * hop].sum().backward()
    seen = frames.grad[0].abs().sum(0).nonzero().flatten()
    assert (int(seen[0]), int(seen[-1])) == (middle - before, middle + behind)


def test_a_stretch_with_its_surroundings_is_made_like_the_whole(vocoder):
    """What streaming needs."""
    units = torch.randint(UNITS, (1, 70), generator=torch.Generator().manual_seed(2))
    whole = vocoder(units, predict_durations=False).waveform[0]
    before, behind = vocoder.config.receptive_field_frames
    for start, stop in ((30, 40), (0, 10)):
        first, last = max(0, start - before), stop + behind
        window = vocoder(units[:, first:last], predict_durations=False).waveform[0]
        stretch = window[(start - first) * HOP : (stop - first) * HOP]
        assert (stretch - whole[start * HOP : stop * HOP]).abs().max() < TOLERANCE
    reach = vocoder.config.duration_receptive_field_units
    durations = vocoder.predict_durations(units)
    found = vocoder.predict_durations(units[:, 30 - reach : 40 + reach])
    assert reach == 2 and torch.equal(found[:, reach:-reach], durations[:, 30:40])


def test_gradients_of_a_batch_are_those_of_its_rows():
    vocoder = tiny_vocoder()
    ids, mask = padded(RAGGED_UNITS)

    def gradients(outputs):
        vocoder.zero_grad()
        sum(output.waveform.square().sum() for output in outputs).backward()
        return {name: value.grad.clone() for name, value in vocoder.named_parameters() if value.grad is not None}

    together = gradients([vocoder(ids, mask)])
    single = gradients([alone(vocoder, row) for row in RAGGED_UNITS])
    assert together.keys() == single.keys()
    for name, value in together.items():
        torch.testing.assert_close(value, single[name], rtol=1e-3, atol=1e-4)


def test_a_tuple_on_request(vocoder):
    expected = alone(vocoder, [3, 7])
    waveform, lengths, durations = alone(vocoder, [3, 7], return_dict=False)
    assert torch.equal(waveform, expected.waveform) and torch.equal(durations, expected.durations)
    assert lengths.tolist() == expected.waveform_lengths.tolist() == [HOP * int(durations.sum())]


@pytest.mark.parametrize(
    ("ids", "mask", "words"),
    [
        ([[3, 11]], None, "unit 11 at column 1 of row 0 is not among the 11 units from 0 to 10"),
        ([[3, 4], [-1, 2]], None, "unit -1 at column 0 of row 1"),
        ([[3, 4], [1, 2]], [[1, 1], [0, 0]], "row 1 has no units"),
        ([[], []], None, "row 0 has no units"),
        ([3, 4], None, "input_ids is a tensor of shape (2,) and type int64"),
        ([[3.0, 4.0]], None, "type float32"),
        ([[True]], None, "type bool"),
        ([[3, 4]], [[1]], "attention_mask is a tensor of shape (1, 1)"),
        ([[3, 4]], [1, 1], "input_ids has shape (1, 2)"),
    ],
)
def test_unusable_units_are_refused(vocoder, ids, mask, words):
    ids = torch.tensor(ids, dtype=torch.long if ids == [[], []] else None)
    with pytest.raises(UnitError, match=re.escape(words)):
        vocoder(ids, None if mask is None else torch.tensor(mask))


def test_what_is_no_tensor_is_refused(vocoder):
    with pytest.raises(UnitError, match="input_ids is a list"):
        vocoder([[3, 4]])
    with pytest.raises(UnitError, match="attention_mask is a list"):
        vocoder(torch.tensor([[3, 4]]), [[1, 1]])
    with pytest.raises(UnitError, match="the batch has no units"):
        vocoder(torch.zeros(0, 4, dtype=torch.long))


@pytest.mark.parametrize(
    ("durations", "words"),
    [
        ([[1, 2]], "durations is a tensor of shape (1, 2) and type int64, input_ids has shape (1, 3)"),
        ([1, 2, 3], "shape (3,)"),
        ([[1.0, 2.0, 3.0]], "type float32"),
        ([[1, 2, -1]], "the duration at column 2 of row 0 is -1"),
        ([[1, 0, 2]], "the duration at column 1 of row 0 is 0"),
    ],
)
def test_unusable_durations_are_refused(vocoder, durations, words):
    with pytest.raises(UnitError, match=re.escape(words)):
        alone(vocoder, [3, 4, 5], durations=torch.tensor(durations))


def test_a_vocoder_without_predictor_says_what_to_give():
    vocoder = tiny_vocoder(duration_predictor_hidden_size=0)
    with pytest.raises(ConfigurationError, match=r"no duration predictor \(give durations in frames, or predict_dur"):
        alone(vocoder, [3, 4])
    with pytest.raises(ConfigurationError, match="no duration predictor"):
        vocoder.predict_durations(torch.tensor([[3]]))
    assert alone(vocoder, [3, 4], predict_durations=False).waveform.shape == (1, 2 * HOP)
    assert vocoder.config.duration_receptive_field_units == 0


@pytest.mark.parametrize(
    ("speakers", "words"),
    [
        (None, "4 voices, and none was named"),
        ([4], "speaker 4 of row 0 is unknown"),
        ([-1], "speaker -1 of row 0 is unknown"),
        ([0, 1], "speaker_ids is a tensor of shape (2,) and type int64 for 1 rows"),
        ([0.5], "type float32"),
    ],
)
def test_unusable_speakers_are_refused(speakers, words):
    vocoder = tiny_vocoder(num_speakers=4)
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        alone(vocoder, [3], speaker_ids=None if speakers is None else torch.tensor(speakers))


def test_speakers_of_a_single_voice_are_refused(vocoder):
    with pytest.raises(ConfigurationError, match="a single voice"):
        alone(vocoder, [3], speaker_ids=torch.tensor([0]))


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"num_speakers": -1}, "num_speakers is -1"),
        ({"upsample_rates": (5, 2, 2)}, "do not fit each other"),
        ({"upsample_rates": (), "upsample_kernel_sizes": ()}, "do not fit each other"),
        ({"upsample_kernel_sizes": (3, 4)}, "upsample_kernel_sizes has 3 for the rate 5"),
        ({"upsample_kernel_sizes": (10, 4)}, "upsample_kernel_sizes has 10 for the rate 5"),
        ({"upsample_initial_channel": 3}, "upsample_initial_channel is 3"),
        ({"resblock_kernel_sizes": (3, 4)}, "resblock_kernel_sizes has 4"),
        ({"resblock_kernel_sizes": (3,)}, "resblock_dilation_sizes"),
        ({"resblock_dilation_sizes": ((1, 3), ())}, "resblock_dilation_sizes has ()"),
        ({"resblock_dilation_sizes": ((1, 3), (0,))}, "resblock_dilation_sizes has (0,)"),
        ({"duration_predictor_kernel_size": 2}, "duration_predictor_kernel_size has 2"),
        ({"upsample_rates": 3}, "upsample_rates is 3 (it is a list)"),
        ({"upsample_rates": (5, "2")}, "upsample_kernel_sizes has 4 for the rate '2' (both are whole numbers)"),
        ({"resblock_kernel_sizes": None}, "resblock_kernel_sizes is None"),
        ({"resblock_kernel_sizes": (3, "5")}, "resblock_kernel_sizes has '5'"),
        ({"resblock_dilation_sizes": ((1, 3), (1001,))}, "resblock_dilation_sizes has (1001,)"),
        ({"resblock_dilation_sizes": ((1,) * 50, (1,))}, "make 102 residual layers"),
        ({"leaky_relu_slope": "x"}, "leaky_relu_slope is 'x'"),
        ({"upsample_initial_channel": 16.0}, "upsample_initial_channel is 16.0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, words):
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        tiny_vocoder_config(**sizes)


def test_a_new_vocoder_has_the_original_initialisation():
    torch.manual_seed(0)
    vocoder = AutoModel.from_config(UnitHifiGanConfig())
    assert type(vocoder) is UnitHifiGan and vocoder.num_parameters() == 13_359_810
    for name, parameter in vocoder.named_parameters():
        if ".resblocks." in name or ".upsampler." in name or ".conv_post." in name:
            if name.endswith("weight") and parameter.numel() > 1000:
                assert abs(parameter.std() - 0.01) < 0.001, name
        elif name == "generator.conv_pre.weight":
            assert abs(parameter.std() - (3 * 128 * 7) ** -0.5) < 0.001
    assert alone(vocoder.eval(), [3, 4], predict_durations=False).waveform.isfinite().all()


def test_saved_and_opened_in_another_process(vocoder, tmp_path):
    vocoder.save_pretrained(tmp_path)
    ids, mask = padded(RAGGED_UNITS)
    code = """
import sys, torch, speechprompt_hf
from transformers import AutoModel
model, info = AutoModel.from_pretrained(sys.argv[1], output_loading_info=True)
assert type(model) is speechprompt_hf.UnitHifiGan and not any(info.values()), info
ids, mask, expected = torch.load(sys.argv[2])
with torch.no_grad():
    print(torch.equal(model(ids, mask).waveform, expected))
"""
    torch.save((ids, mask, vocoder(ids, mask).waveform), tmp_path / "expected.pt")
    command = [sys.executable, "-c", code, str(tmp_path), str(tmp_path / "expected.pt")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "True"
    config = AutoConfig.from_pretrained(tmp_path)
    assert type(config) is UnitHifiGanConfig and config.receptive_field_frames == vocoder.config.receptive_field_frames


def test_attention_of_the_hub_is_not_fetched():
    assert "_attn_implementation" not in UnitHifiGanConfig.from_dict({"_attn_implementation": "a/kernel"}).to_dict()
    assert UnitHifiGanConfig.from_dict({"attn_implementation": "a/kernel"})._attn_implementation != "a/kernel"


def test_one_length_is_not_zeroed(vocoder, monkeypatch):
    """Batches of one length take the short way, and are the same."""
    given = []
    forward = HifiGanGenerator.forward
    monkeypatch.setattr(
        HifiGanGenerator, "forward", lambda self, states, num: given.append(num) or forward(self, states, num)
    )
    rows = [[3, 4, 5], [6, 7, 8]]
    batch = vocoder(torch.tensor(rows), predict_durations=False)
    assert_rows_are_alone(vocoder, batch, rows, lambda row: {"predict_durations": False})
    assert given == [None] * 3
