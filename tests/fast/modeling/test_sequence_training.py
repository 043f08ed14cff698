"""The loss of sequences, against loops over positions; gradients; training."""

from functools import partial

import pytest
import torch

from speechprompt_hf.core.errors import ConfigurationError, LabelError
from tests.fixtures.sequence_models import (
    LABELS,
    UNK,
    UTTERANCES,
    make_sequence_model,
    pad_labels,
    slow_log_probabilities,
    tiny_base,
    without_padding,
)
from tests.fixtures.tiny_models import PEFT_WARNING, count_calls, pad, tiny_lm

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)
# What may be said of twelve tokens.
SAYABLE = [2, *range(4, 12)]
OPTIONS = [
    {},
    {"prompt": "input", "label_feedback": "token"},
    {"label_feedback": "mixture", "feedback_temperature": 0.3},
    {"verbalizer": "random", "label_feedback": "learned"},
    {"method": "finetune"},
]


@pytest.fixture(scope="module", params=["gslm", "mbart", "qwen2", pytest.param("opt", marks=pytest.mark.slow)])
def base(request, tmp_path_factory):
    return tiny_base(request.param, tmp_path_factory.mktemp(request.param))


def row_log_probabilities(model, stock, tokens, labels):
    """Of every label that is taught."""
    step = partial(slow_log_probabilities, model, stock, tokens)
    return [step(labels[:place])[label] for place, label in enumerate(labels) if label != UNK]


@torch.no_grad()
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_loss_is_the_mean_over_positions(base, options):
    model = make_sequence_model(base[0], prompt_dropout=0.0, **options)
    labels = [*LABELS[:3], [7, UNK, 6, 2]]
    values = []
    for tokens, row in zip(UTTERANCES, labels, strict=True):
        values += row_log_probabilities(model, base[1], tokens, row)
    expected = -torch.stack(values).mean()
    for side in ("left", "right"):
        ids, mask = pad(UTTERANCES, side)
        output = model(ids, mask, labels=pad_labels(labels))
        assert abs(output.loss - expected) < 1e-3
        assert output.logits.shape == (len(labels), 6, 12) and output.logits.dtype == torch.float32
        assert (output.logits[..., [0, 1, UNK]] == -torch.inf).all() and output.logits[..., SAYABLE].isfinite().all()
        # The same with a cache, with utterances read before, and with more padding.
        assert abs(model(ids, mask, labels=pad_labels(labels), use_cache=True).loss - expected) < 1e-3
        read = model.read(ids, mask)
        assert abs(model(encoder_outputs=read, labels=pad_labels(labels, 3)).loss - expected) < 1e-3
    training = model.train()
    training.lm.eval()  # the finetune method trains with dropout
    assert abs(training(ids, mask, labels=pad_labels(labels)).loss - expected) < 1e-3


@torch.no_grad()
def test_rows_do_not_see_their_neighbours(base):
    model = make_sequence_model(base[0])
    ids, mask = pad(UTTERANCES, "left")
    together = model(ids, mask, labels=pad_labels(LABELS)).loss
    alone = [
        model(torch.tensor([tokens]), labels=torch.tensor([row])).loss * len(row)
        for tokens, row in zip(UTTERANCES, LABELS, strict=True)
    ]
    assert abs(together - sum(alone) / sum(map(len, LABELS))) < 1e-3
    others = pad_labels([LABELS[0], *([9, 9, 2],) * 3])
    both = [model(ids, mask, labels=labels).logits[0, :4, SAYABLE] for labels in (pad_labels(LABELS), others)]
    assert (both[0] - both[1]).abs().max() < 1e-3


@torch.no_grad()
def test_the_loss_is_what_generate_says_of_its_own_words(base):
    model = make_sequence_model(base[0])
    for tokens in UTTERANCES:
        ids = torch.tensor([tokens])
        output = model.generate(
            input_ids=ids, num_beams=3, max_new_tokens=4, return_dict_in_generate=True, output_scores=True
        )
        values = model.compute_transition_scores(output.sequences, output.scores, output.beam_indices)[0]
        said = without_padding(output.sequences)[0]
        loss = model(ids, labels=torch.tensor([said])).loss
        assert abs(loss + values[: len(said)].mean()) < 1e-3
        greedy = model.generate(
            input_ids=ids, max_new_tokens=4, return_dict_in_generate=True, output_logits=True, output_scores=True
        )
        said = without_padding(greedy.sequences)[0]
        logits = torch.stack(greedy.logits, dim=1)
        assert (model(ids, labels=torch.tensor([said])).logits - logits)[..., SAYABLE].abs().max() < 1e-3
        expected = torch.stack(greedy.scores, dim=1).log_softmax(-1)[0, range(len(said)), said]
        values = model.compute_transition_scores(greedy.sequences, greedy.scores, normalize_logits=True)[0]
        assert (values - expected).abs().max() < 1e-5
        assert all((scores[:, UNK] == -torch.inf).all() for scores in greedy.scores)


def gradients(model, **inputs):
    model.zero_grad()
    model(**inputs).loss.backward()
    return {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


def test_a_cache_takes_no_gradients_away():
    model = make_sequence_model(tiny_lm(seed=10), prompt_dropout=0.0).train()
    ids, mask = pad(UTTERANCES)
    inputs = {"input_ids": ids, "attention_mask": mask, "labels": pad_labels(LABELS)}
    expected, found = gradients(model, **inputs), gradients(model, **inputs, use_cache=True)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    with pytest.raises(ConfigurationError, match="read before, without gradients"):
        model(encoder_outputs=model.read(ids, mask), labels=pad_labels(LABELS))
    with pytest.raises(LabelError, match="token 12 is to be said, the output vocabulary has 12 tokens"):
        model(ids, mask, labels=torch.full((len(ids), 1), 12))


def test_unknown_and_padding_are_not_taught():
    model = make_sequence_model(tiny_lm(seed=10))
    ids, mask = pad(UTTERANCES)
    labels = pad_labels([[5, UNK, 2], [UNK, 2], [8, 2], [2]])
    found = gradients(model, input_ids=ids, attention_mask=mask, labels=labels)
    padded = labels.clone()
    padded[padded == -100] = 1  # as a tokenizer pads
    padded[0, 1] = UNK
    again = gradients(model, input_ids=ids, attention_mask=mask, labels=padded)
    for name, gradient in found.items():
        assert (again[name] - gradient).abs().max() < 1e-6


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_only_prompt_separator_and_verbalizer_are_trained(options):
    model = make_sequence_model(tiny_lm(seed=10), **options).train()
    ids, mask = pad(UTTERANCES)
    found = set(gradients(model, input_ids=ids, attention_mask=mask, labels=pad_labels(LABELS)))
    trained = {name for name, one in model.named_parameters() if one.requires_grad}
    own = {name for name in trained if not name.startswith("lm.")}
    assert ("verbalizer.weight" in own) == (options.get("verbalizer") != "random")
    assert ("verbalizer.embedding" in own) == (options.get("label_feedback", "learned") == "learned")
    if options.get("method") == "finetune":
        assert own == {"verbalizer.weight", "verbalizer.embedding"}
        assert any(name.startswith("lm.model.layers.1") for name in found)
    else:
        assert trained == own == found
        assert any(name.startswith("prompt.") and "separator" in name for name in found)
    assert model.num_trained_parameters() == sum(one.numel() for one in model.parameters() if one.requires_grad)


@pytest.mark.parametrize("prompt", ["deep", "input"])
def test_checkpointed_gradients_are_the_same(base, prompt):
    model = make_sequence_model(base[0], prompt=prompt, prompt_dropout=0.0).train()
    ids, mask = pad(UTTERANCES)
    inputs = {"input_ids": ids, "attention_mask": mask, "labels": pad_labels(LABELS)}
    expected = gradients(model, **inputs)
    called = count_calls(next(module for name, module in model.lm.named_modules() if name.endswith("k_proj")))
    # transformers 5.23 knows the old name only.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    disable = getattr(model, "activation_checkpointing_disable", None) or model.gradient_checkpointing_disable
    try:
        enable()
        found = gradients(model, **inputs)
    finally:
        disable()
    assert len(called) >= 2
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).abs().max() < 1e-3 * gradient.abs().max() + 1e-6, name


@pytest.mark.parametrize(
    "options",
    [{}, pytest.param({"prompt": "input", "label_feedback": "mixture"}, marks=pytest.mark.slow)],
    ids=str,
)
def test_training_teaches_to_say(base, options):
    model = make_sequence_model(base[0], prompt_dropout=0.0, **options).train()
    ids, mask = pad(UTTERANCES)
    labels = pad_labels(LABELS)
    optimizer = torch.optim.Adam([one for one in model.parameters() if one.requires_grad], lr=3e-2)
    for _ in range(150):
        optimizer.zero_grad()
        loss = model(ids, mask, labels=labels).loss
        loss.backward()
        optimizer.step()
        if loss < 0.05:
            break
    said = model.eval().generate(input_ids=ids, attention_mask=mask)
    assert without_padding(said) == [list(row) for row in LABELS], loss


@pytest.mark.parametrize("kind", ["gslm", "mbart", "qwen2"])
def test_a_base_of_bfloat16(kind, tmp_path):
    lm, _ = tiny_base(kind, tmp_path)
    exact = make_sequence_model(lm)
    ids, mask = pad(UTTERANCES)
    expected = exact(ids, mask, labels=pad_labels(LABELS)).logits[..., SAYABLE].log_softmax(-1)
    model = make_sequence_model(lm.to(torch.bfloat16)).train()
    assert {one.dtype for one in (*model.prompt.parameters(), *model.verbalizer.parameters())} == {torch.float32}
    output = model(ids, mask, labels=pad_labels(LABELS))
    assert output.logits.dtype == torch.float32
    output.loss.backward()
    assert all(one.grad.isfinite().all() for one in model.parameters() if one.requires_grad)
    found = model.eval()(ids, mask, labels=pad_labels(LABELS)).logits[..., SAYABLE].log_softmax(-1)
    assert (found.exp() - expected.exp()).abs().mean() < 0.03
    assert model.generate(input_ids=ids, attention_mask=mask, num_beams=2).shape[0] == len(UTTERANCES)


def test_units_are_dropped_in_training_only():
    model = make_sequence_model(tiny_lm(seed=10), unit_dropout=0.5, prompt_dropout=0.0)
    ids, mask = pad(UTTERANCES)
    labels = pad_labels(LABELS)
    expected = model(ids, mask, labels=labels).loss
    assert torch.equal(model(ids, mask, labels=labels).loss, expected)
    torch.manual_seed(0)
    model.train()
    losses = [model(ids, mask, labels=labels).loss.item() for _ in range(5)]
    assert len(set(losses)) == 5
    torch.manual_seed(0)
    assert model(ids, mask, labels=labels).loss.item() == losses[0]
    assert torch.equal(model.eval()(ids, mask, labels=labels).loss, expected)


def test_inputs_that_are_missing_or_there_twice_are_refused():
    model = make_sequence_model(tiny_lm(seed=10))
    ids = torch.tensor([UTTERANCES[0]])
    with pytest.raises(ConfigurationError, match="no labels and no decoder_input_ids"):
        model(ids)
    for inputs in ({}, {"input_ids": ids, "input_values": torch.zeros(1, 800)}):
        with pytest.raises(ConfigurationError, match="exactly one of input_ids and input_values"):
            model(labels=torch.tensor([[5, 2]]), **inputs)
    loss, logits = model(ids, labels=torch.tensor([[5, 2]]), return_dict=False)
    assert loss.dim() == 0 and logits.shape == (1, 2, 12)


def test_a_prompt_may_begin_with_frequent_units():
    options = {"prompt_init": "frequent_units", "prompt_parametrization": "table", "num_virtual_tokens": 1}
    lm = tiny_lm()
    models = [make_sequence_model(lm, training_units=rows, **options) for rows in ([[3, 3, 8]], [[8, 8, 3]])]
    keys = [model.prompt.states(model.lm).keys[1] for model in models]
    assert (keys[0] - keys[1]).abs().max() > 0.01
