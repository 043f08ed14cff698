import pytest
import torch

from speechprompt_hf.core.errors import UnitError
from speechprompt_hf.explanation import UnitScorer
from speechprompt_hf.explanation.scoring import all_log_odds, log_odds
from tests.fixtures.made_up_classifiers import AdditiveModel

UNITS = [5, 9, 12, 7, 3, 8, 5]
READOUTS = ["pooled", "separator", "hidden"]


@pytest.mark.parametrize("readout", READOUTS)
def test_what_is_left_scores_as_an_utterance_of_its_own(unit_model, readout):
    model = unit_model(readout=readout)
    kept = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [0, 1, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0, 0], [0, 1, 0, 1, 1, 0, 0]])
    scores = UnitScorer(model, UNITS).logits(kept)
    for selection, row in zip(kept.tolist(), scores, strict=True):
        left = [unit for unit, stays in zip(UNITS, selection, strict=True) if stays]
        with torch.no_grad():
            alone = model(input_ids=torch.tensor([model.vocabulary.input_ids(left)])).logits[0]
        assert torch.allclose(row, alone.double(), atol=1e-5)


@pytest.mark.parametrize("readout", READOUTS)
def test_units_that_are_all_there_are_the_utterance(unit_model, readout):
    scorer = UnitScorer(unit_model(readout=readout), UNITS)
    whole = scorer.logits(torch.ones(1, len(UNITS)))
    assert torch.allclose(scorer.faded_logits(torch.ones(2, len(UNITS))), whole.expand(2, -1), atol=1e-5)
    assert not torch.allclose(scorer.faded_logits(torch.zeros(1, len(UNITS))), whole, atol=1e-3)


@pytest.mark.parametrize("readout", ["separator", "hidden"])
def test_fading_is_differentiable(unit_model, readout):
    scorer = UnitScorer(unit_model(readout=readout).double(), UNITS)
    presence = torch.full((1, len(UNITS)), 0.6, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(scorer.faded_logits(presence)[0, 1], presence)
    for place in range(len(UNITS)):
        step = torch.zeros_like(presence)
        step[0, place] = 1e-3
        with torch.no_grad():
            rise = scorer.faded_logits(presence + step)[0, 1] - scorer.faded_logits(presence - step)[0, 1]
        # Scores pass through float32 in the verbalizer.
        assert float(rise / 2e-3) == pytest.approx(float(gradient[0, place]), rel=0.02, abs=2e-3)


def test_the_model_is_as_it_was_after_fading():
    model = AdditiveModel([[1.0, 0.0], [0.0, 1.0]])
    scorer = UnitScorer(model, [0, 1])
    assert scorer.faded_logits(torch.tensor([[0.5, 2.0]])).tolist() == [[0.5, 2.0]]
    assert scorer.logits(torch.ones(1, 2)).tolist() == [[1.0, 1.0]]
    with pytest.raises(RuntimeError):
        scorer.faded_logits(torch.ones(1, 1))
    assert scorer.logits(torch.ones(1, 2)).tolist() == [[1.0, 1.0]]


def test_equal_selections_are_read_once():
    model = AdditiveModel([[1.0, 0.0], [0.0, 1.0]])
    UnitScorer(model, [0, 1, 0]).logits(torch.tensor([[1, 0, 1]] * 500 + [[1, 1, 1]] * 500))
    assert model.rows_read == 2


def test_log_odds_are_those_of_the_probabilities():
    logits = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3
    probabilities = logits.softmax(-1)
    expected = (probabilities / (1 - probabilities)).log()
    assert torch.allclose(all_log_odds(logits), expected)
    assert torch.allclose(torch.stack([log_odds(logits, index) for index in range(5)], dim=1), expected)
    assert all_log_odds(torch.tensor([[1000.0, 0.0]], dtype=torch.float64)).isfinite().all()


def test_a_unit_of_another_vocabulary_is_named():
    with pytest.raises(UnitError, match="unit 7 is not among the 2 units"):
        UnitScorer(AdditiveModel([[1.0, 0.0], [0.0, 1.0]]), [0, 7])
