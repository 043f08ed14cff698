"""Rows of many adapters in one batch score as each task alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechprompt_hf.modeling import PromptStates
from speechprompt_hf.modeling.prompt_bank import gather_prompts
from tests.fixtures.many_adapters import KINDS, check_against_alone, logits_of, names_here, open_all
from tests.fixtures.tiny_models import (
    HIDDEN_SIZE,
    PEFT_WARNING,
    RAGGED_ROWS,
    VOCAB_SIZE,
    count_calls,
    pad,
    tiny_lm,
)

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)

units = st.lists(st.integers(4, VOCAB_SIZE - 1), min_size=0, max_size=10)
tagged_rows = st.tuples(units.map(lambda row: [2, *row, 0]), st.sampled_from(list(KINDS)))


@settings(deadline=None, max_examples=60)
@given(batch=st.lists(tagged_rows, min_size=1, max_size=6), side=st.sampled_from(["left", "right"]))
def test_a_row_scores_as_its_task_alone(many, alone, batch, side):
    rows, names = zip(*batch, strict=True)
    check_against_alone(many, alone, rows, names, side, tolerance=1e-3)  # weights of 0.3 make logits of hundreds


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_all_kinds_in_one_batch(folders, alone, attention):
    model = open_all(folders, attn_implementation=attention)
    assert model.lm.config._attn_implementation == attention
    rows = [RAGGED_ROWS[index % 3] for index in range(2 * len(KINDS))]
    check_against_alone(model, alone, rows, [*KINDS, *reversed(KINDS)])


@pytest.mark.parametrize("names", [["deep", "long"], ["input", "long input"], ["deep", "input"], ["probe", "deep"]])
def test_two_kinds_in_one_batch(many, alone, names):
    check_against_alone(many, alone, RAGGED_ROWS[:2], names)
    check_against_alone(many, alone, RAGGED_ROWS, [*names, names[0]], side="left")


def test_adapters_differ(alone):
    """Otherwise a batch that takes the wrong adapter would pass."""
    for name, other in zip(KINDS, list(KINDS)[1:], strict=False):
        first, second = logits_of(alone[name]), logits_of(alone[other])
        assert first.shape != second.shape or (first - second).abs().max() > 0.1


@pytest.mark.parametrize(
    ("names", "passes"),
    [
        (["deep", "long", "input", "probe", "pooled intents"], 1),
        (["deep", "intents", "mixture", "probed intents", "long"], 2),
        (["intents", "intents"], 2),
    ],
)
def test_a_batch_is_one_pass_and_a_second_for_label_sequences(many, names, passes):
    calls = count_calls(many.lm.model)
    rows = [RAGGED_ROWS[index % 3] for index in range(len(names))]
    logits_of_mixed = many(*pad(rows), adapter_names=names_here(names)).logits
    assert len(logits_of_mixed) == len(names)
    assert len(calls) == passes


def test_the_loss_is_the_mean_over_rows(many, alone):
    names = ["deep", "intents", "probe", "intents", "fixed", "pooled intents"]
    rows, labels = [RAGGED_ROWS[index % 3] for index in range(6)], [2, 4, 5, 0, 1, 3]
    ids, mask = pad(rows)
    with torch.no_grad():
        loss = many(ids, mask, labels=torch.tensor(labels), adapter_names=names_here(names)).loss
        single = [
            alone[name](torch.tensor([row]), labels=torch.tensor([label])).loss
            for name, row, label in zip(names, rows, labels, strict=True)
        ]
    assert abs(loss - torch.stack(single).mean()) < 1e-4


def test_a_tuple_on_request(many):
    ids, mask = pad(RAGGED_ROWS)
    output = many(ids, mask, adapter_names=["probe", "default", "probe"], return_dict=False)
    assert output[0].shape == (3, 6)
    assert output[1][1] == ("a3", "b3", "c3")


def test_gathering_copies_only_what_the_batch_needs():
    lm = tiny_lm()
    assert gather_prompts([None, None], torch.tensor([0, 1]), lm) is None
    states = PromptStates(inputs=torch.ones(2, HIDDEN_SIZE))
    assert gather_prompts([states], torch.tensor([0, 0]), lm) is states
    same = gather_prompts([states, states], torch.tensor([1, 0, 0]), lm)
    assert same.inputs.shape == (3, 2, HIDDEN_SIZE) and same.input_mask is None and same.key_mask is None
    mixed = gather_prompts([states, None], torch.tensor([1, 0]), lm)
    assert mixed.input_mask.tolist() == [[False, False], [True, True]]
    assert torch.equal(mixed.separator[0], lm.get_input_embeddings().weight[0])


def test_masked_input_prompts_need_no_mask_of_tokens():
    lm = tiny_lm()
    ids = torch.tensor([[2, 5, 9, 0], [2, 7, 8, 0]])
    vectors = torch.randn(1, HIDDEN_SIZE, generator=torch.Generator().manual_seed(0))
    prompt = gather_prompts([PromptStates(inputs=vectors), None], torch.tensor([0, 1]), lm)
    with torch.no_grad():
        together = lm(ids, prompt=prompt).logits
        assert (together[0] - lm(ids[:1], prompt=PromptStates(inputs=vectors)).logits[0]).abs().max() < 1e-4
        assert (together[1] - lm(ids[1:]).logits[0]).abs().max() < 1e-4
        # Step by step from a cache.
        read = lm(ids[:, :2], prompt=prompt, use_cache=True)
        cache = read.get("cache") or read.get("past_key_values")
        stepped = lm(ids[:, 2:], prompt=prompt, past_key_values=cache).logits
    assert (stepped - together[:, 2:]).abs().max() < 1e-4
