"""Several labels an utterance: exact scores, teacher forcing, greedy decoding, against loops over single sequences."""

import itertools

import pytest
import torch

from speechprompt_hf.core.errors import LabelError
from speechprompt_hf.modeling import SpeechPromptForAudioClassification
from speechprompt_hf.modeling.label_rows import LabelRows
from tests.fixtures.tiny_models import RAGGED_ROWS, VOCAB_SIZE, pad, tiny_lm

# Two of the three actions share objects; the second and third position share label tokens.
SEQUENCES = ((0, 5, 5), (0, 5, 6), (0, 7, 6), (1, 5, 5), (1, 7, 6), (2, 6, 5))
NAMES = [f"class {index}" for index in range(len(SEQUENCES))]


def make(readout="separator", attn_implementation="sdpa", lm_seed=2, **options):
    model = SpeechPromptForAudioClassification.from_base(
        tiny_lm(seed=lm_seed, attn_implementation=attn_implementation),
        NAMES,
        label_sequences=SEQUENCES,
        num_virtual_tokens=3,
        readout=readout,
        separator_init="normal",
        **options,
    )
    with torch.no_grad():
        if model.verbalizer.weight is not None:
            model.verbalizer.weight.normal_(generator=torch.Generator().manual_seed(1))
    return model


def brute_force(model, tokens):
    """Log-probability of every class by one cache-free forward pass for every prefix."""
    states = None if model.prompt is None else model.prompt.states(model.lm)
    rows, verbalizer = model.verbalizer.rows, model.verbalizer
    feedback = verbalizer.feedback(model.lm.get_input_embeddings())
    scores = []
    for class_rows in rows.row_of_class.tolist():
        total = 0.0
        for position, row in enumerate(class_rows):
            separator = False if states is None else states.separator
            vectors = model.lm.model.embed_tokens(torch.tensor([tokens]), separator=separator)
            said = feedback[class_rows[:position]].unsqueeze(0)
            logits = model.lm(inputs_embeds=torch.cat([vectors, said], 1), prompt=states, use_cache=False).logits[
                0, -1
            ]
            part = rows.slices[position]
            total += verbalizer.scores_at(logits, position).log_softmax(-1)[row - part.start]
        scores.append(total)
    return torch.stack(scores)


OPTIONS = [
    {"prompt": "deep"},
    {"prompt": "deep", "attn_implementation": "eager"},
    {"prompt": "input"},
    {"prompt": "deep", "label_feedback": "mixture", "feedback_temperature": 0.5},
    {"prompt": "deep", "verbalizer": "random"},
    {"method": "finetune"},
]


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_scores_are_exact_log_probabilities(options, side):
    model = make(**options)
    ids, mask = pad(RAGGED_ROWS, side)
    logits = model(ids, mask).logits
    assert logits.shape == (3, len(SEQUENCES))
    for tokens, row in zip(RAGGED_ROWS, logits, strict=True):
        assert (row - brute_force(model, tokens)).abs().max() < 1e-4


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_teacher_forced_loss_is_the_loss_of_the_exact_scores(options, side):
    model = make(prompt_dropout=0.0, **options)
    ids, mask = pad(RAGGED_ROWS, side)
    labels = torch.tensor([1, 4, 5])
    expected = model(ids, mask, labels=labels)
    model.train()
    model.lm.eval()  # the finetune method trains with dropout
    output = model(ids, mask, labels=labels)
    assert output.logits is None
    assert abs(output.loss - expected.loss) < 1e-5
    assert abs(expected.loss + expected.logits[range(3), labels].mean()) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_greedy_decoding_equals_a_cache_free_loop(options):
    generator = torch.Generator().manual_seed(0)
    rows = [[2, *torch.randint(4, 30, (n,), generator=generator).tolist(), 0] for n in range(1, 13)]
    ids, mask = pad(rows)
    # Random models often say the same of everything; take the first one that does not.
    models = (make(lm_seed=seed, **options) for seed in range(50))
    model = next(model for model in models if len(set(model.decode(ids, mask, mode="greedy").tolist())) > 1)
    expected = []
    for tokens in rows:
        possible = list(range(len(SEQUENCES)))
        states = None if model.prompt is None else model.prompt.states(model.lm)
        feedback = model.verbalizer.feedback(model.lm.get_input_embeddings())
        separator = False if states is None else states.separator
        vectors = model.lm.model.embed_tokens(torch.tensor([tokens]), separator=separator)
        for position in range(3):
            logits = model.lm(inputs_embeds=vectors, prompt=states, use_cache=False).logits[0, -1]
            scores = model.verbalizer.scores_at(logits, position)
            row_of_class = model.verbalizer.rows.row_of_class[:, position]
            start = model.verbalizer.rows.slices[position].start
            best = max(possible, key=lambda index: scores[row_of_class[index] - start].item())
            possible = [index for index in possible if row_of_class[index] == row_of_class[best]]
            vectors = torch.cat([vectors, feedback[row_of_class[best]].view(1, 1, -1)], 1)
        expected.append(possible[0])
    assert model.decode(ids, mask, mode="greedy").tolist() == expected
    assert model.decode(ids, mask).tolist() == model(ids, mask).logits.argmax(-1).tolist()


@torch.no_grad()
@pytest.mark.parametrize("normalized", [True, False])
def test_pooled_readout_sums_independent_heads(normalized):
    model = make("pooled", normalize_pooled=normalized)
    ids, mask = pad(RAGGED_ROWS)
    states = model.prompt.states(model.lm)
    logits = model(ids, mask).logits
    for tokens, row in zip(RAGGED_ROWS, logits, strict=True):
        lm_logits = model.lm(torch.tensor([tokens]), prompt=states).logits[0]
        features = torch.cat([lm_logits, lm_logits.softmax(-1).mean(0, keepdim=True)])
        if normalized:
            features = (features - features.mean(1, keepdim=True)) / features.std(1, correction=0, keepdim=True)
        weights = model.verbalizer.weight
        scores = torch.stack(
            [
                max(float(place @ row[:VOCAB_SIZE]) for place in features[:-1]) + features[-1] @ row[VOCAB_SIZE:]
                for row in weights
            ]
        )
        heads = [scores[part].log_softmax(-1) for part in model.verbalizer.rows.slices]
        for value, sequence in zip(row, SEQUENCES, strict=True):
            tokens_at = [sorted({other[place] for other in SEQUENCES}) for place in range(3)]
            expected = sum(head[tokens_at[place].index(sequence[place])] for place, head in enumerate(heads))
            assert abs(value - expected) < 1e-3


@pytest.mark.parametrize("readout", ["separator", "pooled"])
def test_training_lowers_the_loss(readout):
    model = make(readout, prompt_dropout=0.0).train()
    ids, mask = pad(RAGGED_ROWS)
    labels = torch.tensor([0, 2, 5])
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=3e-2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = model(ids, mask, labels=labels).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2, losses
    assert model.eval().decode(ids, mask, mode="greedy").tolist() == labels.tolist()


def test_rows_and_prefix_tree():
    rows = LabelRows(len(SEQUENCES), SEQUENCES)
    assert rows.labels == [(0, 0), (0, 1), (0, 2), (1, 5), (1, 6), (1, 7), (2, 5), (2, 6)]
    assert rows.row_of_class[2].tolist() == [0, 5, 7]
    tree = rows.tree
    prefixes = {tuple(sequence[:length]) for sequence in SEQUENCES for length in (1, 2)}
    assert len(tree.rows) == len(prefixes)
    for node, parent in enumerate(tree.parents):
        assert tree.visible[node, node]
        assert parent < 0 or tree.visible[node, parent]
        assert int(tree.visible[node].sum()) == tree.depths[node]


def test_one_position_needs_no_sequences():
    rows = LabelRows(4)
    assert rows.row_of_class.tolist() == [[0], [1], [2], [3]]
    assert rows.tree.rows == ()
    assert LabelRows(3, [[7], [3], [5]]).row_of_class.tolist() == [[2], [0], [1]]


def test_more_labels_than_units_need_another_feedback():
    labels = list(itertools.product(range(30), range(30, 32)))
    base, names = tiny_lm(), [str(label) for label in labels]
    with pytest.raises(LabelError, match=r"32 labels .* among 26"):
        SpeechPromptForAudioClassification.from_base(base, names, label_sequences=labels)
    model = SpeechPromptForAudioClassification.from_base(base, names, label_sequences=labels, label_feedback="mixture")
    assert model(torch.tensor([[2, 5, 0]])).logits.shape == (1, 60)
