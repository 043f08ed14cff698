"""Ragged batches: whatever the padding, rows equal themselves alone."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechprompt_hf.modeling import SpeechPromptForAudioClassification
from speechprompt_hf.modeling.label_rows import LabelRows
from speechprompt_hf.modeling.positions import NO_POSITION, count_positions
from speechprompt_hf.modeling.verbalizer_maps import frequency_map
from tests.fixtures.tiny_models import VOCAB_SIZE, pad, tiny_lm

units = st.lists(st.integers(4, VOCAB_SIZE - 1), min_size=0, max_size=12)
batches = st.lists(units.map(lambda row: [2, *row, 0]), min_size=1, max_size=4)
sides = st.sampled_from(["left", "right"])

SEQUENCES = [[0, 5, 5], [0, 5, 6], [0, 7, 6], [1, 5, 5], [2, 6, 5]]
LM = tiny_lm(seed=4)
MODELS = [
    SpeechPromptForAudioClassification.from_base(
        LM, [str(index) for index in range(5)], separator_init="normal", **options
    )
    for options in (
        {"prompt": "deep"},
        {"prompt": "input", "readout": "pooled"},
        {"prompt": "deep", "readout": "hidden"},
        {"prompt": "input", "label_sequences": SEQUENCES},
        {"prompt": "deep", "label_sequences": SEQUENCES, "label_feedback": "mixture"},
    )
]


@settings(deadline=None, max_examples=40)
@given(rows=batches, side=sides, index=st.integers(0, len(MODELS) - 1), extra=st.integers(0, 3))
@torch.no_grad()
def test_a_row_scores_as_it_does_alone(rows, side, index, extra):
    model = MODELS[index]
    ids, mask = pad(rows, side)
    padding = (0, extra) if side == "right" else (extra, 0)
    ids, mask = torch.nn.functional.pad(ids, padding, value=1), torch.nn.functional.pad(mask, padding)
    together = model(ids, mask).logits
    assert not together.isnan().any()
    for tokens, row in zip(rows, together, strict=True):
        assert (model(torch.tensor([tokens])).logits[0] - row).abs().max() < 1e-3
    greedy = model.decode(ids, mask, mode="greedy")
    assert ((greedy >= 0) & (greedy < 5)).all()


@settings(deadline=None, max_examples=100)
@given(
    mask=st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=3),
    prompts=st.integers(0, 3),
    past=st.integers(0, 5),
)
def test_positions_count_real_tokens(mask, prompts, past):
    tensor = torch.tensor(mask).long()
    positions = count_positions(tensor, past_length=past, num_tokens=6 - past, num_prompt_columns=prompts)
    for row, found in zip(mask, positions.tolist(), strict=True):
        for column in range(past, 6):
            is_token = row[column] and column >= prompts
            expected = sum(row[prompts:column]) if is_token else NO_POSITION
            assert found[column - past] == expected


@settings(deadline=None, max_examples=100)
@given(
    sequences=st.integers(1, 3).flatmap(
        lambda k: st.lists(st.tuples(*[st.integers(0, 4)] * k), min_size=1, max_size=12, unique=True)
    )
)
def test_label_rows_name_every_class_once(sequences):
    rows = LabelRows(len(sequences), sequences)
    named = [tuple(rows.labels[row][1] for row in class_rows) for class_rows in rows.row_of_class.tolist()]
    assert named == sequences
    assert len(rows) == sum(len({sequence[place] for sequence in sequences}) for place in range(rows.num_positions))
    prefixes = {sequence[:length] for sequence in sequences for length in range(1, rows.num_positions)}
    assert len(rows.tree.rows) == len(prefixes)


@settings(deadline=None, max_examples=100)
@given(
    labels=st.lists(st.integers(0, 5), max_size=30),
    rows=st.lists(st.lists(st.integers(4, VOCAB_SIZE - 1), max_size=10), max_size=5),
)
def test_frequency_maps_are_injective_and_ordered(labels, rows):
    tokens = frequency_map(labels, rows, range(6), VOCAB_SIZE).tolist()
    assert len(set(tokens)) == 6
    flat = [token for row in rows for token in row]
    by_frequency = sorted(range(6), key=lambda label: -labels.count(label))
    counts = [flat.count(tokens[label]) for label in by_frequency]
    for earlier, later, first, second in zip(by_frequency, by_frequency[1:], counts, counts[1:], strict=False):
        if labels.count(earlier) > labels.count(later):
            assert first >= second
