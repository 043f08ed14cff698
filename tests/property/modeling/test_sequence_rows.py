"""Sequences of ragged batches: whatever the padding, rows are answered as alone, and the loss is a mean over rows."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fixtures.sequence_models import UNK, make_sequence_model, pad_labels, without_padding
from tests.fixtures.tiny_models import VOCAB_SIZE, pad, tiny_lm
from tests.fixtures.unit_mbarts import tiny_mbart

units = st.lists(st.integers(4, VOCAB_SIZE - 1), max_size=12)
said = st.lists(st.integers(UNK, 11), max_size=6).map(lambda row: [*row, 2])
rows = st.lists(st.tuples(units.map(lambda row: [2, *row, 0]), said), min_size=1, max_size=4)
MODELS = [
    make_sequence_model(lm, **options)
    for lm in (tiny_lm(seed=10), tiny_mbart(seed=1))
    for options in ({}, {"prompt": "input", "label_feedback": "token"}, {"verbalizer": "random"})
]


@settings(deadline=None, max_examples=12)
@given(
    rows=rows, side=st.sampled_from(["left", "right"]), index=st.integers(0, len(MODELS) - 1), extra=st.integers(0, 3)
)
@torch.no_grad()
def test_a_row_is_answered_as_it_is_alone(rows, side, index, extra):
    model = MODELS[index]
    ids, mask = pad([tokens for tokens, _ in rows], side)
    padding = (0, extra) if side == "right" else (extra, 0)
    ids, mask = torch.nn.functional.pad(ids, padding, value=1), torch.nn.functional.pad(mask, padding)
    loss = model(ids, mask, labels=pad_labels([row for _, row in rows], extra)).loss
    alone, taught = 0.0, 0
    for tokens, row in rows:
        known = sum(token != UNK for token in row)
        alone += model(torch.tensor([tokens]), labels=torch.tensor([row])).loss * known
        taught += known
    assert abs(loss - alone / taught) < 1e-3
    answers = without_padding(model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=4))
    for (tokens, _), answer in zip(rows, answers, strict=True):
        scores = model(torch.tensor([tokens]), labels=torch.tensor([answer])).logits[0]
        scores[:, UNK] = -torch.inf
        best = scores.max(-1).values
        # Ties aside, what is said is what scores best.
        assert (best - scores[range(len(answer)), answer]).abs().max() < 1e-3
        assert min(answer) >= 2 and UNK not in answer
