"""Verbalizers of two layers: scores against a slow loop, padding, files, sequences, bases, and mixed batches."""

import json

import pytest
import torch

from speechprompt_hf.core.errors import AdapterError, ConfigurationError
from speechprompt_hf.modeling import SpeechPromptConfig, SpeechPromptForAudioClassification, VerbalizerHead
from tests.fixtures.stock_unit_lms import wrapped
from tests.fixtures.tiny_models import HIDDEN_SIZE, RAGGED_ROWS, VOCAB_SIZE, pad, tiny_lm
from tests.fixtures.unit_mbarts import tiny_mbart

READOUTS = ["separator", "pooled", "hidden"]
SEQUENCES = [[0, 7], [0, 8], [1, 7], [1, 8]]


def config(num_labels=3, hidden_size=6, **fields):
    return SpeechPromptConfig(
        id2label={index: f"label {index}" for index in range(num_labels)},
        vocab_size=VOCAB_SIZE,
        hidden_size=HIDDEN_SIZE,
        verbalizer_hidden_size=hidden_size,
        **fields,
    )


def model_with(readout="pooled", labels=("a", "b", "c"), **options):
    return SpeechPromptForAudioClassification.from_base(
        options.pop("base", None) or tiny_lm(), labels, readout=readout, verbalizer_hidden_size=6, **options
    )


def normalized(values):
    return (values - values.mean()) / values.var(unbiased=False).sqrt()


def detections(head, values):
    layer = zip(head.hidden_weight, head.hidden_bias, strict=True)
    return [max(0.0, float(row @ values + bias)) for row, bias in layer]


def randomize(head, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return head


@torch.no_grad()
def test_pooled_scores_are_those_of_a_loop():
    head = randomize(VerbalizerHead(config(readout="pooled")).eval())
    logits = torch.randn(3, 5, VOCAB_SIZE, generator=torch.Generator().manual_seed(1)) * 4
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [1, 0, 0, 0, 0]])
    for scores, row, real in zip(head.scores_of_utterance(logits, mask), logits, mask, strict=True):
        found = [detections(head, normalized(at)) for at, is_real in zip(row, real, strict=True) if is_real]
        highest = [max(column) for column in zip(*found, strict=True)]
        mean = [sum(column) / len(found) for column in zip(*found, strict=True)]
        expected = head.weight @ torch.tensor(highest + mean) + head.bias
        assert (scores - expected).abs().max() < 1e-4


@torch.no_grad()
def test_without_normalization_the_logits_themselves_are_read():
    head = randomize(VerbalizerHead(config(readout="pooled", normalize_pooled=False)).eval())
    logits = torch.randn(1, 1, VOCAB_SIZE, generator=torch.Generator().manual_seed(1))
    found = torch.tensor(detections(head, logits[0, 0]) * 2)
    assert (head.scores_of_utterance(logits, torch.ones(1, 1)) - (head.weight @ found + head.bias)).abs().max() < 1e-4


@torch.no_grad()
def test_scores_at_the_separator_and_of_mean_states_pass_both_layers():
    head = randomize(VerbalizerHead(config(4, label_sequences=SEQUENCES)).eval())
    logits = torch.randn(VOCAB_SIZE, generator=torch.Generator().manual_seed(1))
    found = torch.tensor(detections(head, logits))
    for position, rows in enumerate(head.rows.slices):
        expected = head.weight[rows] @ found + head.bias[rows]
        assert (head.scores_at(logits, position) - expected).abs().max() < 1e-4
    head = randomize(VerbalizerHead(config(readout="hidden")).eval())
    states = torch.randn(1, 2, HIDDEN_SIZE, generator=torch.Generator().manual_seed(1))
    expected = head.weight @ torch.tensor(detections(head, states[0].mean(0))) + head.bias
    assert (head.scores_of_states(states, torch.ones(1, 2))[0] - expected).abs().max() < 1e-4


@torch.no_grad()
@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_no_score(readout, side):
    model = model_with(readout)
    randomize(model.verbalizer)
    ids, mask = pad(RAGGED_ROWS, side)
    for tokens, row in zip(RAGGED_ROWS, model(ids, mask).logits, strict=True):
        assert (model(torch.tensor([tokens])).logits[0] - row).abs().max() < 1e-3


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("sequences", [None, SEQUENCES])
def test_every_part_of_it_has_gradients(readout, sequences):
    model = model_with(readout, ["a", "b", "c", "d"], label_sequences=sequences).train()
    ids, mask = pad(RAGGED_ROWS)
    model(ids, mask, labels=torch.tensor([0, 1, 3])).loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.verbalizer.named_parameters()}
    assert set(gradients) == {"weight", "bias", "hidden_weight", "hidden_bias"}
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients.values())


@torch.no_grad()
@pytest.mark.parametrize("readout", READOUTS)
def test_it_is_saved_with_the_adapter(readout, tmp_path):
    model = model_with(readout)
    randomize(model.verbalizer)
    model.save_pretrained(tmp_path)
    opened = SpeechPromptForAudioClassification.from_pretrained(tmp_path, base=tiny_lm())
    assert opened.config.verbalizer_hidden_size == 6
    ids, mask = pad(RAGGED_ROWS)
    assert torch.equal(opened(ids, mask).logits, model(ids, mask).logits)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.verbalizer.state_dict().items()}
    assert shapes == VerbalizerHead.shapes(model.config)


@pytest.mark.parametrize("size", [0, 5, "6", -1, 10**9, True])
def test_a_file_of_another_size_is_refused(size, tmp_path):
    model_with().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"verbalizer_hidden_size": size}))
    with pytest.raises(AdapterError, match=r"hidden_weight|hidden_bias|verbalizer_hidden_size|holds bias"):
        SpeechPromptForAudioClassification.from_pretrained(tmp_path, base=tiny_lm())


@torch.no_grad()
@pytest.mark.parametrize("base", ["unit mbart", "llama", "gpt2"])
@pytest.mark.parametrize("readout", READOUTS)
def test_every_base_is_read_and_opened_again(base, readout, tmp_path):
    lm = tiny_mbart() if base == "unit mbart" else wrapped(base, tmp_path)[1]
    model = model_with(readout, base=lm)
    randomize(model.verbalizer)
    rows = [[2, 5, 9, 7, 0], [2, 6, 0]]
    ids, mask = pad(rows)
    scores = model(ids, mask).logits
    for tokens, row in zip(rows, scores, strict=True):
        assert (model(torch.tensor([tokens])).logits[0] - row).abs().max() < 1e-3
    model.save_pretrained(tmp_path / "adapter")
    opened = SpeechPromptForAudioClassification.from_pretrained(tmp_path / "adapter", base=lm)
    assert torch.allclose(opened(ids, mask).logits, scores, atol=1e-5)


@torch.no_grad()
def test_rows_of_several_adapters_read_their_own(tmp_path):
    base = tiny_lm()
    linear = SpeechPromptForAudioClassification.from_base(base, ["x", "y"], readout="pooled")
    linear.save_pretrained(tmp_path / "linear")
    model = model_with(base=base)
    randomize(model.verbalizer)
    ids, mask = pad(RAGGED_ROWS)
    alone, other = model(ids, mask).logits, linear(ids, mask).logits
    model.load_adapter(tmp_path / "linear", adapter_name="linear")
    mixed = model(ids, mask, adapter_names=["default", "linear", "default"]).logits
    assert (mixed[[0, 2]] - alone[[0, 2]]).abs().max() < 1e-4
    assert (mixed[1, :2] - other[1]).abs().max() < 1e-4


def test_bfloat16_autocast_trains_it():
    model = model_with().train()
    ids, mask = pad(RAGGED_ROWS)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(ids, mask, labels=torch.tensor([0, 1, 2])).loss
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": -1}, "verbalizer_hidden_size is -1"),
        ({"hidden_size": 65_537}, "verbalizer_hidden_size is 65537"),
        ({"hidden_size": 2.5}, "verbalizer_hidden_size is 2.5"),
        ({"hidden_size": True}, "verbalizer_hidden_size is True"),
        ({"hidden_size": "6"}, "verbalizer_hidden_size is '6'"),
        ({"verbalizer": "random"}, "verbalizer_hidden_size is 6 with a 'random' verbalizer"),
        ({"label_feedback": "mixture"}, "label_feedback 'mixture' with verbalizer_hidden_size 6"),
    ],
)
def test_impossible_options_are_refused(fields, message):
    with pytest.raises(ConfigurationError, match=message):
        config(**fields)


@torch.no_grad()
@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_scores_are_float32_whatever_the_verbalizer_is_kept_in(readout, dtype):
    head = randomize(VerbalizerHead(config(readout=readout)).eval())
    features = torch.randn(2, 3, HIDDEN_SIZE if readout == "hidden" else VOCAB_SIZE)
    read = {
        "separator": lambda head: head.scores_at(features[:, 0], 0),
        "pooled": lambda head: head.scores_of_utterance(features, torch.ones(2, 3)),
        "hidden": lambda head: head.scores_of_states(features, torch.ones(2, 3)),
    }[readout]
    expected = read(head)
    with torch.autocast("cpu", torch.bfloat16):
        assert read(head).dtype == torch.float32
    scores = read(head.to(dtype))
    assert scores.dtype == torch.float32
    assert (scores - expected).abs().max() < 0.1 * expected.abs().max()


def test_packages_that_know_one_layer_alone_refuse_two(tmp_path):
    model_with().save_pretrained(tmp_path / "two")
    model = SpeechPromptForAudioClassification.from_base(tiny_lm(), ["a", "b"], readout="pooled")
    model.save_pretrained(tmp_path / "one")
    versions = {name: json.loads((tmp_path / name / "config.json").read_text()) for name in ("one", "two")}
    assert {name: values["format_version"] for name, values in versions.items()} == {"one": 1, "two": 2}


def test_seeds_and_sizes():
    first, again, other = (VerbalizerHead(config(seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(first.hidden_weight, again.hidden_weight)
    assert not torch.equal(first.hidden_weight, other.hidden_weight)
    assert first.hidden_weight.abs().max() <= VOCAB_SIZE**-0.5
    assert VerbalizerHead(config(hidden_size=0)).hidden_weight is None
