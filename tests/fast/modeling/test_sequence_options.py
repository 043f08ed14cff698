"""What transformers' `generate` offers, on models that say sequences: sampling, n-best, constraints, streaming."""

from threading import Thread

import pytest
import torch
from transformers import GenerationConfig, TextIteratorStreamer, TextStreamer

from speechprompt_hf.core.errors import AdapterError
from tests.fast.modeling.test_audio_input import StandInProcessor
from tests.fixtures.sequence_models import (
    UNK,
    UTTERANCES,
    make_sequence_model,
    pad_labels,
    tiny_base,
    without_padding,
)
from tests.fixtures.tiny_models import pad, tiny_lm

SHORT = {"max_new_tokens": 5}


@pytest.fixture(scope="module", params=["gslm", "mbart", pytest.param("qwen2", marks=pytest.mark.slow)])
def model(request, tmp_path_factory):
    return make_sequence_model(tiny_base(request.param, tmp_path_factory.mktemp(request.param))[0])


@pytest.fixture(scope="module")
def batch():
    ids, mask = pad(UTTERANCES, "left")
    return {"input_ids": ids, "attention_mask": mask}


def test_sampling_depends_on_the_seed_alone(model, batch):
    said = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        said.append(model.generate(**batch, **SHORT, do_sample=True, num_return_sequences=3, top_k=0).tolist())
    assert said[0] == said[1] != said[2]
    assert len(said[0]) == 3 * len(UTTERANCES)
    assert len({tuple(row) for row in said[0]}) > 3


def test_samples_follow_the_probabilities(batch):
    model = make_sequence_model(tiny_lm(seed=10))
    tokens = torch.tensor([UTTERANCES[0]])
    probabilities = model(tokens, decoder_input_ids=torch.tensor([[0]])).logits[0, 0].detach()
    probabilities[UNK] = -torch.inf
    torch.manual_seed(0)
    said = model.generate(tokens, do_sample=True, top_k=0, max_new_tokens=1, num_return_sequences=2000)[:, 1]
    shares = said.bincount(minlength=12) / 2000
    assert (shares - probabilities.softmax(0)).abs().max() < 0.04


@torch.no_grad()
@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_the_best_sequences_are_sorted_and_their_scores_are_log_probabilities(model, batch, penalty):
    output = model.generate(
        **batch,
        **SHORT,
        num_beams=4,
        num_return_sequences=4,
        length_penalty=penalty,
        return_dict_in_generate=True,
        output_scores=True,
    )
    scores = output.sequences_scores.view(-1, 4)
    assert (scores.diff(dim=1) <= 0).all()
    said = without_padding(output.sequences)
    assert all(len({*map(tuple, said[start : start + 4])}) == 4 for start in range(0, len(said), 4))
    ids = batch["input_ids"].repeat_interleave(4, 0)
    logits = model(ids, batch["attention_mask"].repeat_interleave(4, 0), labels=pad_labels(said)).logits
    for row, tokens, score in zip(logits.log_softmax(-1), said, scores.flatten(), strict=True):
        total = row[range(len(tokens)), tokens].sum()
        assert abs(total / len(tokens) ** penalty - score) < 1e-3


@torch.no_grad()
def test_only_allowed_tokens_are_said(model, batch):
    allowed = [[4, 2], [5, 6, 2], [7, 2], [8, 9, 2]]

    def next_tokens(row, said):
        return allowed[row] if len(said) < 4 else [2]

    for options in ({}, {"num_beams": 3}, {"do_sample": True}):
        said = without_padding(model.generate(**batch, prefix_allowed_tokens_fn=next_tokens, **options))
        for row, tokens in zip(said, allowed, strict=True):
            assert set(row) <= set(tokens) and len(row) <= 4 and row[-1] == 2
    bias = {(5,): 1e4}
    assert (model.generate(**batch, **SHORT, sequence_bias=bias)[:, 1:] == 5).all()
    assert 5 not in model.generate(**batch, **SHORT, bad_words_ids=[[5]])


@torch.no_grad()
def test_what_is_streamed_is_the_text(model, capsys):
    tokenizer = model.output_tokenizer
    for tokens in UTTERANCES:
        ids = torch.tensor([tokens])
        said = model.generate(input_ids=ids, **SHORT)
        text = tokenizer.decode(said[0], skip_special_tokens=True)
        streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True, timeout=60)
        thread = Thread(target=model.generate, kwargs={"input_ids": ids, "streamer": streamer, **SHORT})
        thread.start()
        pieces = list(streamer)
        thread.join()
        assert "".join(pieces) == text
        assert len(pieces) > 1
        model.generate(input_ids=ids, streamer=TextStreamer(tokenizer, skip_special_tokens=True), **SHORT)
        assert capsys.readouterr().out == text + "\n"


@torch.no_grad()
def test_utterances_that_were_read_can_be_answered_again(model, batch):
    read = model.read(**batch)
    for options in ({}, {"num_beams": 3}, {"num_beams": 3, "num_return_sequences": 2}, {}, {"use_cache": False}):
        expected = model.generate(**batch, **SHORT, **options)
        assert torch.equal(model.generate(encoder_outputs=read, **SHORT, **options), expected)
    assert read.rows.tolist() == list(range(len(UTTERANCES)))
    # A sequence that was begun goes on as it would have.
    said = model.generate(**batch, max_new_tokens=5)
    begun = model.generate(**batch, max_new_tokens=3, decoder_input_ids=said[:, :3])
    assert without_padding(begun) == without_padding(said)


@torch.no_grad()
def test_lengths(batch):
    model = make_sequence_model(tiny_lm(seed=10), max_output_tokens=3)

    def lengths(**options):
        return model.generate(**batch, suppress_tokens=[2], **options).shape[1] - 1

    assert lengths() == 3
    assert lengths(max_new_tokens=7) == 7
    assert lengths(max_length=5) == 4
    assert lengths(generation_config=GenerationConfig(max_new_tokens=2)) == 2
    assert lengths(generation_config=GenerationConfig(max_length=4)) == 3
    assert lengths(max_length=5, decoder_input_ids=torch.tensor([[0, 5]] * 4)) == 4
    assert lengths(max_length=9, max_new_tokens=2) == 2
    assert all(len(row) >= 3 for row in without_padding(model.generate(**batch, min_new_tokens=3)))


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True, "temperature": 10.0}], ids=str)
@pytest.mark.parametrize("verbalizer", ["learnable", "random"])
def test_special_tokens_are_never_said(batch, verbalizer, options):
    model = make_sequence_model(tiny_lm(seed=10), verbalizer=verbalizer)
    with torch.no_grad():
        if verbalizer == "learnable":
            # However likely unknown is.
            model.verbalizer.weight[1] = 100 * model.lm(torch.tensor([UTTERANCES[0]])).logits[0, -1]
    torch.manual_seed(0)
    configured = GenerationConfig(max_new_tokens=9, suppress_tokens=[5])
    for more in ({}, {"suppress_tokens": [5]}, {"generation_config": configured}):
        for row in without_padding(model.generate(**batch, **options, **more)):
            assert min(row) >= 2 and UNK not in row
            assert "suppress_tokens" not in more or 5 not in row


@torch.no_grad()
def test_audio_equals_its_units():
    model = make_sequence_model(tiny_lm(seed=10, fingerprint={"digest": "units"}))
    waves = torch.tensor([[1.2, 1.4, 5.5, 5.0, 8.0, 0.0], [9.0, 8.5, 8.0, 3.0, 3.0, 3.5]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]])
    with pytest.raises(AdapterError, match="no processor is attached"):
        model.generate(input_values=waves)
    with pytest.raises(AdapterError, match="no processor is attached"):
        model(input_values=waves, labels=torch.tensor([[2], [2]]))
    model.attach_processor(StandInProcessor())
    ids, unit_mask = pad([[2, 5, 9, 12, 0], [2, 13, 12, 7, 0]])
    for options in ({}, {"num_beams": 2, "num_return_sequences": 2}):
        expected = model.generate(input_ids=ids, attention_mask=unit_mask, **options)
        assert torch.equal(model.generate(input_values=waves, attention_mask=mask, **options), expected)
    labels = torch.tensor([[5, 2], [2, -100]])
    expected = model(ids, unit_mask, labels=labels).loss
    assert torch.equal(model(input_values=waves, attention_mask=mask, labels=labels).loss, expected)
