import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.pretraining.infilling import draw_spans, infill

MASK = 999
rows = st.lists(st.integers(4, 30), min_size=1, max_size=80)
seeds = st.integers(0, 2**32 - 1)


@given(rows, seeds, st.floats(0, 1), st.floats(0.1, 8))
def test_what_is_left_stays_in_order_and_as_much_as_asked_for_is_masked(row, seed, share, mean_span):
    tokens = np.array(row, dtype=np.int64)
    spans = draw_spans(len(tokens), np.random.default_rng(seed), share=share, mean_span=mean_span)
    noisy = infill(tokens, np.random.default_rng(seed), MASK, share=share, mean_span=mean_span)
    assert noisy.dtype == np.int64 and 1 <= len(noisy) <= len(tokens)
    assert (noisy == MASK).sum() == len(spans) and (spans >= 0).all()
    assert spans.sum() == np.ceil(round(share * len(tokens), 9))
    left = noisy[noisy != MASK]
    assert len(left) == len(tokens) - spans.sum()
    # What stands between two masks is a run of the sequence, and the runs come in its order.
    runs, start = np.split(noisy, np.flatnonzero(noisy == MASK)), 0
    for run in runs:
        run = run[run != MASK].tolist()
        start = next(at for at in range(start, len(row) + 1) if row[at : at + len(run)] == run) + len(run)


@given(rows, seeds)
def test_masks_are_no_neighbours_where_there_is_room(row, seed):
    noisy = infill(np.array(row, dtype=np.int64), np.random.default_rng(seed), MASK)
    masks, left = (noisy == MASK).sum(), (noisy != MASK).sum()
    neighbours = ((noisy[1:] == MASK) & (noisy[:-1] == MASK)).sum()
    assert neighbours == 0 or masks > left + 1


def test_without_a_share_nothing_changes_and_with_all_of_it_only_masks_are_left():
    tokens = np.arange(4, 24)
    assert infill(tokens, np.random.default_rng(0), MASK, share=0.0).tolist() == tokens.tolist()
    assert set(infill(tokens, np.random.default_rng(0), MASK, share=1.0).tolist()) == {MASK}


def test_spans_have_the_mean_length_and_every_token_is_masked_equally_often():
    generator = np.random.default_rng(0)
    lengths = np.concatenate([draw_spans(2000, generator, share=0.35, mean_span=3.5) for _ in range(50)])
    assert lengths.mean() == pytest.approx(3.5, abs=0.1)
    masked = np.zeros(40)
    for _ in range(2000):
        left = infill(np.arange(4, 44), generator, MASK)
        masked += ~np.isin(np.arange(4, 44), left)
    assert masked.mean() / 2000 == pytest.approx(14 / 40)
    # Ends are masked less often than the middle: a span may start at them, but none runs over them.
    assert masked.min() / 2000 > 0.12 and masked[5:-5].std() / 2000 < 0.02


@pytest.mark.parametrize(("share", "mean_span"), [(-0.1, 3.5), (1.1, 3.5), (0.3, 0.0), (0.3, 1e-9), (0.3, -1.0)])
def test_numbers_out_of_range_are_refused(share, mean_span):
    with pytest.raises(ConfigurationError, match="cannot be masked"):
        infill(np.arange(4, 9), np.random.default_rng(0), MASK, share=share, mean_span=mean_span)
