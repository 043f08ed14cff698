"""Label sequences and mixed batches on wrapped language models, against loops over single sequences and rows."""

import pytest
import torch
from transformers import DynamicCache

from speechprompt_hf.modeling import SpeechPromptForAudioClassification
from tests.fixtures.many_adapters import KINDS, check_against_alone, make, open_all
from tests.fixtures.stock_unit_lms import OFFSET, UNITS, cache_field, wrapped
from tests.fixtures.tiny_models import PEFT_WARNING, RAGGED_ROWS, pad

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)
SEQUENCES = ((0, 5, 5), (0, 5, 6), (0, 7, 6), (1, 5, 5), (1, 7, 6), (2, 6, 5))
NAMES = [f"class {index}" for index in range(len(SEQUENCES))]
SLOW = pytest.mark.slow
BASES = [("qwen2", False), pytest.param(("opt", True), marks=SLOW), pytest.param(("gpt2", False), marks=SLOW)]


@pytest.fixture(scope="module", params=BASES, ids=str)
def lm(request, tmp_path_factory):
    kind, start = request.param
    return wrapped(kind, tmp_path_factory.mktemp(kind), start=start)


def classifier(lm, **options):
    model = SpeechPromptForAudioClassification.from_base(
        lm[1], NAMES, label_sequences=SEQUENCES, num_virtual_tokens=3, separator_init="normal", **options
    )
    with torch.no_grad():
        if model.verbalizer.weight is not None:
            model.verbalizer.weight.normal_(generator=torch.Generator().manual_seed(1))
    return model


def bare_class_scores(lm, model, tokens):
    """Log-probabilities by the bare model: prompt in a cache or in front, one pass for every prefix of labels."""
    stock, wrapper = lm
    states, rows = model.prompt.states(model.lm), model.verbalizer.rows
    start = [1] if wrapper.config.has_start_token else []
    units = torch.tensor([[*start, *(token - 4 + OFFSET for token in tokens if token >= 4)]])
    feedback = model.verbalizer.feedback(wrapper.get_input_embeddings())
    scores = []
    for class_rows in rows.row_of_class.tolist():
        total = 0.0
        for position, row in enumerate(class_rows):
            vectors = [stock.get_input_embeddings()(units), states.separator.view(1, 1, -1)]
            vectors = torch.cat([*vectors, feedback[class_rows[:position]].unsqueeze(0)], 1)
            cache = DynamicCache()
            for index, (keys, values) in enumerate(zip(states.keys or (), states.values or (), strict=True)):
                cache.update(keys.transpose(0, 1).unsqueeze(0), values.transpose(0, 1).unsqueeze(0), index)
            options = {"position_ids": torch.arange(vectors.shape[1]).unsqueeze(0), cache_field(): cache}
            options["attention_mask"] = torch.ones(1, cache.get_seq_length() + vectors.shape[1])
            states_there = stock(inputs_embeds=vectors, output_hidden_states=True, **options)
            units_there = states_there.logits[0, -1, OFFSET : OFFSET + UNITS]
            # Tokens that the model lacks: the mean of units; the start, before and after an utterance, is one token.
            special = units_there.mean().expand(4).clone()
            if wrapper.config.has_start_token:
                special[[0, 2]] = states_there.logits[0, -1, 1]
            part = rows.slices[position]
            logits = torch.cat([special, units_there])
            total += model.verbalizer.scores_at(logits, position).log_softmax(-1)[row - part.start]
        scores.append(total)
    return torch.stack(scores)


@torch.no_grad()
@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"label_feedback": "mixture"}, marks=SLOW),
        pytest.param({"verbalizer": "random"}, marks=SLOW),
    ],
    ids=str,
)
def test_scores_of_label_sequences_are_the_bare_models(lm, options):
    model = classifier(lm, **options)
    for side in ("left", "right"):
        ids, mask = pad(RAGGED_ROWS, side)
        logits = model(ids, mask).logits
        for tokens, row in zip(RAGGED_ROWS, logits, strict=True):
            assert (row - bare_class_scores(lm, model, tokens)).abs().max() < 1e-3  # logits of hundreds


@torch.no_grad()
@pytest.mark.parametrize("prompt", ["deep", "input"])
def test_teacher_forcing_and_greedy_decoding_agree_with_the_exact_scores(lm, prompt):
    model = classifier(lm, prompt=prompt, prompt_dropout=0.0)
    labels = torch.tensor([1, 4, 5])
    for side in ("left", "right"):
        ids, mask = pad(RAGGED_ROWS, side)
        expected = model.eval()(ids, mask, labels=labels)
        loss = model.train()(ids, mask, labels=labels).loss
        assert abs(loss - expected.loss) < 1e-3
        alone = [int(model.eval().decode(torch.tensor([row]), mode="greedy")) for row in RAGGED_ROWS]
        assert model.decode(ids, mask, mode="greedy").tolist() == alone


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "start"), [("qwen2", False), ("opt", True)])
def test_rows_of_all_kinds_of_adapters_score_as_each_alone(tmp_path_factory, kind, start):
    folder = tmp_path_factory.mktemp(kind)
    base = wrapped(kind, folder, start=start)[1].name_or_path
    alone = {}
    for name, (num_classes, options) in KINDS.items():
        alone[name] = make(base, num_classes, **options)
        alone[name].save_pretrained(folder / name)
    many = open_all(folder)
    rows = [RAGGED_ROWS[index % 3] for index in range(2 * len(KINDS))]
    for side in ("left", "right"):
        check_against_alone(many, alone, rows, [*KINDS, *reversed(KINDS)], side, tolerance=1e-3)
