"""Verbalizers: fixed maps, the learnable head, readouts."""

import pytest
import torch

from speechprompt_hf.core.errors import AdapterError, ConfigurationError, LabelError
from speechprompt_hf.core.vocabulary import UnitVocabulary
from speechprompt_hf.modeling import SpeechPromptConfig, SpeechPromptForAudioClassification, VerbalizerHead
from speechprompt_hf.modeling.verbalizer_maps import frequency_map, random_map
from tests.fixtures.tiny_models import HIDDEN_SIZE, RAGGED_ROWS, VOCAB_SIZE, pad, tiny_lm


def config(num_labels=3, **fields):
    return SpeechPromptConfig(
        id2label={index: f"label {index}" for index in range(num_labels)},
        vocab_size=VOCAB_SIZE,
        hidden_size=HIDDEN_SIZE,
        **fields,
    )


def test_random_maps_are_injective_for_a_thousand_seeds():
    for seed in range(1000):
        tokens = random_map(26, VOCAB_SIZE, torch.Generator().manual_seed(seed))
        assert tokens.unique().numel() == 26
        assert tokens.min() >= 4
        assert tokens.max() < VOCAB_SIZE


def test_random_maps_are_seeded():
    first, again, other = (VerbalizerHead(config(verbalizer="random", seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(first.unit_token_of_row, again.unit_token_of_row)
    assert not torch.equal(first.unit_token_of_row, other.unit_token_of_row)


def test_frequency_map_pairs_ranks_and_breaks_ties_by_first_occurrence():
    # Labels: 2 three times, 0 and 1 once each, 0 first. Units: 9 three times, 7 twice, 5 and 8 once, 8 first.
    tokens = frequency_map([2, 0, 2, 1, 2], [[9, 7, 9], [8, 5, 9, 7]], [0, 1, 2, 3], VOCAB_SIZE)
    assert tokens.tolist() == [7, 8, 9, 5]


def test_frequency_map_through_a_dictionary_that_is_not_numeric():
    vocabulary = UnitVocabulary(tuple(str(unit) for unit in reversed(range(26))))
    model = SpeechPromptForAudioClassification.from_base(
        tiny_lm(),
        ["a", "b"],
        verbalizer="frequency",
        training_units=[[25, 3, 25], [3, 25]],
        training_labels=[1, 1, 0],
        vocabulary=vocabulary,
    )
    # Label b is the most frequent and gets unit 25, the first of the dictionary.
    assert model.verbalizer.unit_token_of_row.tolist() == [4 + 22, 4]


@pytest.mark.parametrize("verbalizer", ["random", "frequency"])
def test_more_labels_than_units_are_refused_by_fixed_maps_only(verbalizer):
    names = [str(index) for index in range(27)]
    with pytest.raises(LabelError, match=r"27 labels .* among 26"):
        SpeechPromptForAudioClassification.from_base(tiny_lm(), names, verbalizer=verbalizer, training_units=[[1, 2]])
    model = SpeechPromptForAudioClassification.from_base(tiny_lm(), [str(index) for index in range(1251)])
    assert model(torch.tensor([[2, 5, 0]])).logits.shape == (1, 1251)


def test_tokens_that_are_no_units_are_refused():
    with pytest.raises(LabelError, match="token id 3 is no unit"):
        frequency_map([0], [[5, 3]], [0, 1], VOCAB_SIZE)


def test_frequency_needs_units():
    with pytest.raises(ConfigurationError, match="needs the units of the training rows"):
        SpeechPromptForAudioClassification.from_base(tiny_lm(), ["a", "b"], verbalizer="frequency")


@torch.no_grad()
def test_learnable_scores_are_linear_in_the_logits():
    head = VerbalizerHead(config()).eval()
    logits = torch.randn(4, VOCAB_SIZE, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(head.scores_at(logits, 0), logits @ head.weight.T, atol=1e-6)
    assert not torch.allclose(head.scores_at(logits, 0), logits.log_softmax(-1) @ head.weight.T, atol=1e-2)


@torch.no_grad()
def test_fixed_scores_are_the_logits_of_the_units():
    head = VerbalizerHead(config(verbalizer="random"))
    logits = torch.randn(4, VOCAB_SIZE, generator=torch.Generator().manual_seed(0))
    assert torch.equal(head.scores_at(logits, 0), logits[:, head.unit_token_of_row])


@torch.no_grad()
def test_dropout_on_scores_in_training_only():
    head = VerbalizerHead(config(verbalizer_dropout=0.5))
    logits = torch.ones(50, VOCAB_SIZE)
    dropped = head.train().scores_at(logits, 0) == 0
    assert 0 < dropped.float().mean() < 1
    assert not (head.eval().scores_at(logits, 0) == 0).any()


@torch.no_grad()
@pytest.mark.parametrize("readout", ["separator", "pooled", "hidden"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_no_score(readout, side):
    model = SpeechPromptForAudioClassification.from_base(tiny_lm(), ["a", "b", "c"], readout=readout)
    ids, mask = pad(RAGGED_ROWS, side)
    together = model(ids, mask).logits
    for tokens, row in zip(RAGGED_ROWS, together, strict=True):
        assert (model(torch.tensor([tokens])).logits[0] - row).abs().max() < 1e-4


@torch.no_grad()
@pytest.mark.parametrize("prompt", ["deep", "input"])
def test_the_separator_readout_is_the_last_real_position(prompt):
    model = SpeechPromptForAudioClassification.from_base(tiny_lm(), ["a", "b", "c"], prompt=prompt)
    ids, mask = pad(RAGGED_ROWS)
    lm_logits = model.lm(ids, mask, prompt=model.prompt.states(model.lm)).logits
    expected = lm_logits[range(3), mask.sum(1) - 1] @ model.verbalizer.weight.T
    assert (model(ids, mask).logits - expected).abs().max() < 1e-4


@torch.no_grad()
def test_a_fixed_pooled_verbalizer_reads_the_maximum_of_its_units():
    model = SpeechPromptForAudioClassification.from_base(
        tiny_lm(), ["a", "b", "c"], verbalizer="random", readout="pooled", normalize_pooled=False
    )
    tokens = torch.tensor([RAGGED_ROWS[1]])
    lm_logits = model.lm(tokens, prompt=model.prompt.states(model.lm)).logits[0]
    expected = lm_logits.amax(0)[model.verbalizer.unit_token_of_row]
    assert (model(tokens).logits[0] - expected).abs().max() < 1e-4


@torch.no_grad()
def test_mixture_feedback_mixes_scaled_unit_embeddings():
    lm = tiny_lm()
    head = VerbalizerHead(
        config(4, label_sequences=[[0, 0], [0, 1], [1, 0], [1, 1]], label_feedback="mixture", feedback_temperature=0.5)
    )
    shares = (head.weight / 0.5).softmax(-1)
    expected = shares @ lm.get_input_embeddings()(torch.arange(VOCAB_SIZE).unsqueeze(0))[0]
    assert torch.allclose(head.feedback(lm.get_input_embeddings()), expected, atol=1e-5)


def test_token_feedback_of_a_learnable_verbalizer_is_injective():
    head = VerbalizerHead(config(4, label_sequences=[[0, 7], [0, 8], [1, 7], [1, 8]]))
    assert head.unit_token_of_row.tolist() == [4, 5, 6, 7]


def test_a_verbalizer_file_of_another_task_is_refused():
    with pytest.raises(AdapterError, match="the verbalizer file holds"):
        VerbalizerHead(config(3)).load_tensors(VerbalizerHead(config(4)).state_dict())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"readout": "middle"}, "readout is 'middle'"),
        ({"verbalizer": "none"}, "verbalizer is 'none'"),
        ({"num_virtual_tokens": 0}, "num_virtual_tokens is 0"),
        ({"prompt_dropout": 1.0}, "prompt_dropout is 1.0"),
        ({"feedback_temperature": 0.0}, "feedback_temperature is 0.0"),
        ({"verbalizer": "random", "readout": "hidden"}, "needs a learnable verbalizer"),
        ({"verbalizer": "random", "label_feedback": "mixture"}, "needs a learnable verbalizer"),
    ],
)
def test_impossible_options_are_refused(fields, message):
    with pytest.raises(ConfigurationError, match=message):
        config(**fields)


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        ([[0], [1]], "2 label sequences for 3 classes"),
        ([[0], [1], [0, 1]], "have lengths"),
        ([[0, 1], [1, 1], [0, 1]], "the same label sequence"),
    ],
)
def test_label_sequences_must_fit_the_classes(sequences, message):
    with pytest.raises(LabelError, match=message):
        config(3, label_sequences=sequences)
