"""What prompts begin with, against slow computations from the stock forward pass."""

from collections import Counter

import pytest
import torch

from speechprompt_hf.core.errors import ConfigurationError, LabelError, UnitError
from speechprompt_hf.core.vocabulary import UnitVocabulary
from speechprompt_hf.modeling import SpeechPromptForAudioClassification, prompt_initialization
from tests.fixtures.tiny_models import HIDDEN_SIZE, tiny_lm
from tests.fixtures.unit_mbarts import DECODER_LAYERS, ENCODER_LAYERS, MBART_UNITS, tiny_mbart

NAMES = ["a", "b", "c"]
EN = 4 + MBART_UNITS
UNITS = [[3, 3, 9, 1], [9, 5, 3], [20, 21, 9, 4, 4, 4, 7], [1, 2], [0, 8, 9]]
CLASSES = [0, 1, 1, 2, 0]
# Units in another order than their token ids.
VOCABULARY = UnitVocabulary(tuple(str(unit) for unit in reversed(range(26))))


def make(lm, **options):
    options = {"training_units": UNITS, "training_labels": CLASSES, "vocabulary": VOCABULARY, **options}
    return SpeechPromptForAudioClassification.from_base(lm, NAMES, **options)


@torch.no_grad()
def states_before_projections(lm, tokens):
    """What each layer projects at the units' columns, caught behind its norm: the first one's without positions."""
    is_mbart = hasattr(lm, "encoder_inputs")
    stacks = [lm.model.encoder, lm.model.decoder] if is_mbart else [lm.model]
    norms = [layer.self_attn_layer_norm for stack in stacks for layer in stack.layers]
    caught, hooks = {}, []
    for index, norm in enumerate(norms):
        hooks.append(norm.register_forward_hook(lambda *given, index=index: caught.update({index: given[2][0]})))
    utterance = torch.tensor([[2, *tokens, 0]])
    if is_mbart:
        lm(**lm.encoder_inputs(utterance), decoder_input_ids=torch.tensor([[EN, 0, *tokens]]), use_cache=False)
    else:
        lm(utterance, use_cache=False)
    for hook in hooks:
        hook.remove()
    embedded = lm.get_input_embeddings().weight[torch.tensor(tokens)] * HIDDEN_SIZE**0.5
    found = []
    for index, norm in enumerate(norms):
        of_decoder = is_mbart and index >= ENCODER_LAYERS
        first = 2 if of_decoder else 1
        found.append(caught[index][first : first + len(tokens)])
        if index == 0 or (is_mbart and index == ENCODER_LAYERS):
            vectors = lm.get_input_embeddings()(torch.tensor(tokens)) if is_mbart else embedded
            found[-1] = norm(stacks[int(of_decoder)].layernorm_embedding(vectors) if is_mbart else vectors)
    return found


def class_means(lm, name):
    rows = [VOCABULARY.encode(units) for units, index in zip(UNITS, CLASSES, strict=True) if index == name]
    by_row = [states_before_projections(lm, row) for row in rows]
    return [torch.cat(layers).mean(0) for layers in zip(*by_row, strict=True)]


LMS = {"gslm": tiny_lm, "mbart": tiny_mbart}


@pytest.mark.parametrize("kind", LMS)
def test_class_means_of_deep_prompts(kind):
    lm = LMS[kind]()
    model = make(lm, prompt_init="class_means", num_virtual_tokens=5)
    expected = [class_means(lm, index) for index in range(3)]
    assert len(expected[0]) == len(model.prompt.keys) == (2 if kind == "gslm" else ENCODER_LAYERS + DECODER_LAYERS)
    for layer, vectors in enumerate(model.prompt.keys):
        for column in range(5):
            assert (vectors[column] - expected[column % 3][layer]).abs().max() < 1e-5
    assert torch.equal(model.prompt.keys, model.prompt.values)
    assert (model.prompt.keys[:, 0] - model.prompt.keys[:, 1]).abs().max() > 0.05
    # As a table: keys and values of the same states.
    table = make(lm, prompt_init="class_means", num_virtual_tokens=5, prompt_parametrization="table").prompt
    states = model.prompt.states(lm)
    assert torch.equal(table.keys[1], states.keys[1].flatten(1))
    assert torch.equal(table.values[1], states.values[1].flatten(1))
    # Fewer columns than classes: the first ones'.
    assert torch.equal(make(lm, prompt_init="class_means", num_virtual_tokens=2).prompt.keys, model.prompt.keys[:, :2])
    upper = make(lm, prompt_init="class_means", num_virtual_tokens=5, prompt_layers="upper").prompt
    assert torch.equal(upper.keys, model.prompt.keys[list(upper.trained_layers)])


@pytest.mark.parametrize("kind", LMS)
def test_class_means_of_input_prompts(kind):
    lm = LMS[kind]()
    model = make(lm, prompt="input", prompt_init="class_means", num_virtual_tokens=4)
    embedding = lm.get_input_embeddings()
    for column in range(4):
        tokens = [
            token
            for units, index in zip(UNITS, CLASSES, strict=True)
            for token in VOCABULARY.encode(units)
            if index == column % 3
        ]
        expected = (embedding.weight[torch.tensor(tokens)] * embedding.scale).mean(0)
        assert (model.prompt.vectors[column] - expected).abs().max() < 1e-5


@pytest.mark.parametrize("kind", LMS)
def test_frequent_units(kind):
    lm = LMS[kind]()
    counts = Counter(unit for row in UNITS for unit in row)
    ranked = sorted(counts, key=lambda unit: (-counts[unit], unit))[:6]
    # 9 occurs four times, 3 and 4 three times, 1 twice; then those that occur once, from 0.
    assert ranked == [9, 3, 4, 1, 0, 2]
    tokens = VOCABULARY.encode(ranked)
    options = {"prompt_init": "frequent_units", "num_virtual_tokens": 6, "training_labels": None}
    model = make(lm, **options)
    for vectors, expected in zip(model.prompt.keys, states_before_projections(lm, tokens), strict=True):
        assert (vectors - expected).abs().max() < 1e-5
    assert torch.equal(model.prompt.keys, model.prompt.values)
    embedding = lm.get_input_embeddings()
    expected = embedding.weight[torch.tensor(tokens)] * embedding.scale
    assert torch.equal(make(lm, prompt="input", **options).prompt.vectors, expected)


@pytest.mark.parametrize("options", [{}, {"prompt": "input"}, {"prompt_parametrization": "table"}], ids=str)
def test_zeros(options):
    prompt = make(tiny_lm(), prompt_init="zeros", **options).prompt
    vectors = [prompt.vectors] if options.get("prompt") else [prompt.keys, prompt.values]
    assert all((each == 0).all() and each.requires_grad for each in vectors)


@pytest.mark.parametrize("kind", ["deep", "input"])
@pytest.mark.parametrize("init", ["frequent_units", "class_means", "vocabulary"])
def test_the_beginning_repeats_and_the_base_stays(kind, init):
    lm = tiny_lm().train()
    before = {name: value.clone() for name, value in lm.state_dict().items()}
    # Generators are read once.
    first, again = (
        make(lm, prompt=kind, prompt_init=init, training_units=iter(UNITS), training_labels=iter(CLASSES))
        for _ in range(2)
    )
    assert torch.equal(first.prompt.table(lm), again.prompt.table(lm))
    other = make(lm, prompt=kind, prompt_init=init, seed=1)
    assert torch.equal(other.prompt.table(lm), first.prompt.table(lm)) == (init != "vocabulary")
    assert all(torch.equal(before[name], value) for name, value in lm.state_dict().items())


def test_of_many_rows_some_are_drawn(monkeypatch):
    monkeypatch.setattr(prompt_initialization, "ROWS_PER_CLASS", 4)
    lm, options = tiny_lm(), {"prompt": "input", "prompt_init": "class_means", "num_virtual_tokens": 3}
    units = [[row % 26, (7 * row) % 26] for row in range(60)]
    labels = [row % 3 for row in range(60)]
    model = make(lm, training_units=units, training_labels=labels, **options)
    generator = torch.Generator().manual_seed(0)
    drawn = sorted(torch.randperm(20, generator=generator)[:4].tolist())
    embedding = lm.get_input_embeddings()
    tokens = [VOCABULARY.encode(units[3 * row + 1]) for row in drawn]
    expected = (embedding.weight[torch.tensor(tokens).flatten()] * embedding.scale).mean(0)
    assert (model.prompt.vectors[1] - expected).abs().max() < 1e-5
    other = make(lm, training_units=units, training_labels=labels, seed=1, **options)
    assert not torch.equal(other.prompt.vectors, model.prompt.vectors)


def test_rows_longer_than_the_positions_are_read_in_parts():
    lm = tiny_lm()
    units = [[row % 26 for row in range(90)], [1, 2]]
    model = make(lm, training_units=units, training_labels=[0, 1], prompt_init="class_means", num_virtual_tokens=2)
    longest = lm.max_utterance_tokens - 2
    tokens = VOCABULARY.encode(units[0])
    parts = [states_before_projections(lm, tokens[start : start + longest]) for start in range(0, 90, longest)]
    expected = torch.cat([part[1] for part in parts]).mean(0)
    assert (model.prompt.keys[1, 0] - expected).abs().max() < 1e-5


def test_an_adapter_opens_without_training_rows(tmp_path):
    lm = tiny_lm()
    for kind in ("deep", "input"):
        model = make(lm, prompt=kind, prompt_init="class_means")
        model.save_pretrained(tmp_path / kind)
        opened = SpeechPromptForAudioClassification.from_pretrained(tmp_path / kind, base=lm)
        assert torch.equal(opened.prompt.table(lm), model.prompt.table(lm))
        assert opened.config.prompt_init == "class_means"


def test_the_verbalizer_of_frequent_units_reads_the_same_rows():
    # Units 9, 3 and 4 in dictionary order 25 … 0; classes 0 and 1 have two rows each.
    verbalizer = make(tiny_lm(), verbalizer="frequency").verbalizer
    assert verbalizer.unit_token_of_row.tolist() == VOCABULARY.encode([9, 3, 4])


def test_a_probe_begins_with_nothing():
    assert make(tiny_lm(), method="probe", prompt_init="class_means", training_units=None).prompt is None


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"prompt_init": "nothing"}, ConfigurationError, "prompt_init is 'nothing'"),
        (
            {"prompt_init": "frequent_units", "training_units": None},
            ConfigurationError,
            r"prompt_init 'frequent_units' needs the units of the training rows \(pass training_units\)",
        ),
        (
            {"prompt_init": "class_means", "training_units": []},
            ConfigurationError,
            "prompt_init 'class_means' needs the units of the training rows",
        ),
        (
            {"prompt_init": "class_means", "training_labels": None},
            ConfigurationError,
            r"needs the classes of the training rows \(pass training_labels\)",
        ),
        (
            {"prompt_init": "class_means", "training_labels": [0, 1]},
            ConfigurationError,
            "5 training rows of units and 2 of classes",
        ),
        (
            {"prompt_init": "class_means", "training_labels": [0, 1, 1, 3, 0]},
            LabelError,
            "a training row has the class 3",
        ),
        (
            {"prompt_init": "class_means", "training_labels": [0, 1, 1, 1, 0]},
            LabelError,
            "training rows of every class, and 'c' has none",
        ),
        (
            {"prompt_init": "frequent_units", "num_virtual_tokens": 13},
            ConfigurationError,
            "needs 13 distinct units for 13 prompt columns, and the training rows have 11",
        ),
        ({"prompt_init": "frequent_units", "training_units": [[26]]}, UnitError, "unit 26"),
        (
            {
                "prompt_init": "frequent_units",
                "training_units": [[29]],
                "vocabulary": UnitVocabulary.from_num_units(30),
            },
            UnitError,
            "unit 29 has the token id 33, and the base has 26 units",
        ),
        (
            {"verbalizer": "frequency", "training_units": None},
            ConfigurationError,
            "verbalizer 'frequency' needs the units of the training rows",
        ),
    ],
    ids=str,
)
def test_what_cannot_begin(options, error, words):
    with pytest.raises(error, match=words):
        make(tiny_lm(), **options)
