import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.core.vocabulary import UnitVocabulary
from speechprompt_hf.pretraining.gslm_pretraining import NextUnit, PretrainingConfig, pretrain_gslm
from speechprompt_hf.pretraining.pretraining_run import mean_loss
from speechprompt_hf.pretraining.rows import collate_packed, collate_rows, make_packed_batches, make_rows
from tests.fixtures.tiny_models import tiny_lm

VOCABULARY = UnitVocabulary.from_num_units(10)


def random_rows(num_rows=9, seed=0):
    generator = np.random.default_rng(seed)
    units = [generator.integers(10, size=generator.integers(1, 12)).tolist() for _ in range(num_rows)]
    return make_rows(units, VOCABULARY, max_tokens=30)


@given(st.lists(st.integers(1, 14), min_size=1, max_size=30), st.integers(0, 2**32 - 1))
def test_every_row_is_packed_once_within_both_bounds(lengths, seed):
    rows = [np.zeros(length, dtype=np.int64) for length in lengths]
    batches = make_packed_batches(rows, 32, 15, np.random.default_rng(seed))
    assert sorted(index for batch in batches for line in batch for index in line) == list(range(len(rows)))
    assert all(sum(len(rows[index]) for index in line) <= 15 for batch in batches for line in batch)
    assert all(len(batch) <= 2 for batch in batches)


def test_a_packed_line_says_of_each_row_what_the_row_alone_says():
    model = tiny_lm(seed=1, vocab_size=len(VOCABULARY)).eval()
    rows = random_rows()
    lines = [rows[:4], rows[4:5], rows[5:]]
    packed = collate_packed(lines)
    assert set(packed) == {"input_ids", "position_ids", "labels"}
    gradients = []
    for batch in (packed, collate_rows(rows)):
        model.zero_grad()
        output = model(**batch, use_cache=False)
        output.loss.backward()
        gradients.append([output.loss.detach()] + [p.grad.clone() for p in model.parameters() if p.grad is not None])
    for of_packed, of_rows in zip(*gradients, strict=True):
        torch.testing.assert_close(of_packed, of_rows, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        logits = model(**{name: packed[name] for name in ("input_ids", "position_ids")}, use_cache=False).logits
        for line, row_logits in zip(lines, logits, strict=True):
            start = 0
            for row in line:
                alone = model(input_ids=torch.from_numpy(row)[None], use_cache=False).logits[0]
                torch.testing.assert_close(row_logits[start : start + len(row)], alone, atol=1e-5, rtol=1e-4)
                start += len(row)


def test_without_positions_rows_of_a_line_would_see_each_other():
    model = tiny_lm(seed=1, vocab_size=len(VOCABULARY)).eval()
    packed = collate_packed([random_rows(4)])
    with torch.no_grad():
        apart = model(**packed, use_cache=False).loss
        joined = model(input_ids=packed["input_ids"], labels=packed["labels"], use_cache=False).loss
    assert abs(float(apart - joined)) > 1e-3


def test_packed_and_single_rows_have_the_same_validation_loss():
    model = tiny_lm(seed=2, vocab_size=len(VOCABULARY)).eval()
    losses = []
    for mode in ("utterance", "packed"):
        config = PretrainingConfig(break_mode=mode, tokens_per_step=64, max_tokens=30)
        losses.append(mean_loss(model, NextUnit(config, len(VOCABULARY)), random_rows(20)))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_pretraining_on_packed_rows_learns_and_resumes_exactly(tmp_path):
    units = [[(start + step) % 10 for step in range(4 + start)] for start in range(10)] * 4
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    values = {"num_steps": 30, "tokens_per_step": 200, "max_tokens": 40, "checkpoint_every": 10, "bf16": False}
    config = PretrainingConfig(**values, break_mode="packed", warm_up_steps=3, learning_rate=1e-2, model=sizes)
    given_ = {"vocabulary": VOCABULARY, "show_progress": False}
    reports = []
    whole = pretrain_gslm(units, tmp_path / "whole", config, validation=units[:10], on_report=reports.append, **given_)
    assert reports[-1]["validation_loss"] < 1.5

    def stop(report):
        raise KeyboardInterrupt

    stopping = tmp_path / "stopped"
    broken = PretrainingConfig(**{**values, "validate_every": 15}, break_mode="packed", warm_up_steps=3,
                               learning_rate=1e-2, model=sizes)  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        pretrain_gslm(units, stopping, broken, validation=units[:10], on_report=stop, **given_)
    again = pretrain_gslm(units, stopping, broken, validation=units[:10], **given_)
    for left, right in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(left, right)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ConfigurationError, match="break_mode is 'both'"):
        PretrainingConfig(break_mode="both")
