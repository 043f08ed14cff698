"""What is said, by batched and cached `generate`, against slow decoders over single rows without a cache."""

import itertools
from functools import partial

import pytest
import torch

from speechprompt_hf.modeling import SpeechPromptForSequenceGeneration
from tests.fixtures.sequence_models import (
    EOS,
    UTTERANCES,
    make_sequence_model,
    slow_beam_search,
    slow_greedy,
    slow_log_probabilities,
    tiny_base,
    tiny_tokenizer,
    without_padding,
)
from tests.fixtures.tiny_models import pad, tiny_lm

OPTIONS = [
    {},
    {"prompt": "input"},
    {"label_feedback": "token"},
    {"label_feedback": "mixture", "feedback_temperature": 0.5},
    {"verbalizer": "random"},
    {"verbalizer": "random", "label_feedback": "learned", "prompt": "input"},
    {"method": "finetune"},
]


CASES = [
    ("gslm", "sdpa"),
    ("mbart", "sdpa"),
    ("qwen2", "sdpa"),
    *(pytest.param(case, marks=pytest.mark.slow) for case in [("opt", "sdpa"), ("gslm", "eager"), ("mbart", "eager")]),
]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def base(request, tmp_path_factory):
    return tiny_base(request.param[0], tmp_path_factory.mktemp(request.param[0]), request.param[1])


def steps(model, stock):
    return [partial(slow_log_probabilities, model, stock, tokens) for tokens in UTTERANCES]


@torch.no_grad()
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_greedy_search_equals_a_slow_loop(base, options):
    model = make_sequence_model(base[0], **options)
    expected = [slow_greedy(step, 6) for step in steps(model, base[1])]
    for side, use_cache in (("left", True), ("right", True), ("left", False)):
        ids, mask = pad(UTTERANCES, side)
        said = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=6, use_cache=use_cache)
        assert without_padding(said) == expected
        assert (said[:, 0] == 0).all()


@torch.no_grad()
@pytest.mark.parametrize("kind", ["gslm", "mbart", "opt"])
def test_eager_attention_says_the_same(kind, tmp_path):
    said = []
    for number, attention in enumerate(("eager", "sdpa")):
        model = make_sequence_model(tiny_base(kind, tmp_path / str(number), attention)[0])
        ids, mask = pad(UTTERANCES, "left")
        said.append(model.generate(input_ids=ids, attention_mask=mask, num_beams=2).tolist())
    assert said[0] == said[1]


@torch.no_grad()
@pytest.mark.parametrize(
    ("options", "penalty"), [(OPTIONS[0], 1.0), (OPTIONS[1], 0.0), (OPTIONS[3], 0.5), (OPTIONS[4], 1.5)], ids=str
)
def test_beam_search_equals_a_textbook_search(base, options, penalty):
    model = make_sequence_model(base[0], **options)
    expected = [slow_beam_search(step, 3, 5, penalty) for step in steps(model, base[1])]
    for side in ("left", "right"):
        ids, mask = pad(UTTERANCES, side)
        output = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=5,
            num_beams=3,
            num_return_sequences=3,
            length_penalty=penalty,
            return_dict_in_generate=True,
            output_scores=True,
        )
        hypotheses = [pair for row in expected for pair in row]
        assert without_padding(output.sequences) == [said for said, _ in hypotheses]
        scores = torch.tensor([score for _, score in hypotheses])
        assert (output.sequences_scores - scores).abs().max() < 1e-3


@torch.no_grad()
def test_beams_of_everything_find_the_best_of_all_sequences():
    model = SpeechPromptForSequenceGeneration.from_base(tiny_lm(seed=3), tiny_tokenizer("ab"), num_virtual_tokens=2)
    tokens = list(UTTERANCES[0])
    step = partial(slow_log_probabilities, model, None, tokens)
    totals = {}
    for length in range(1, 4):
        for said in itertools.product([EOS, 4, 5], repeat=length):
            if EOS in said[:-1] or (said[-1] != EOS and length < 3):
                continue
            totals[said] = sum(float(step(said[:place])[token]) for place, token in enumerate(said))
    best = sorted(totals, key=lambda said: -totals[said] / len(said))
    found = model.generate(input_ids=torch.tensor([tokens]), num_beams=9, max_new_tokens=3, num_return_sequences=3)
    assert without_padding(found) == [list(said) for said in best[:3]]


def test_the_models_of_these_tests_say_different_things_and_end(base):
    """Else the comparisons above would say little."""
    ids, mask = pad(UTTERANCES)
    rows = []
    for options in OPTIONS[:4]:
        rows += without_padding(make_sequence_model(base[0], **options).generate(ids, attention_mask=mask))
    assert len(set(map(tuple, rows))) > 4
    assert {row[-1] == EOS for row in rows} == {True, False}
    assert any(len(set(row)) > 2 for row in rows)
