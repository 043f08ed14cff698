import builtins

import numpy as np
import pytest
import torch

from speechprompt_hf.core.errors import ConfigurationError, MissingDependencyError
from speechprompt_hf.explanation import METHODS, UnitScorer, unit_saliency
from speechprompt_hf.explanation import saliency as module
from speechprompt_hf.explanation.scoring import log_odds
from tests.fixtures.made_up_classifiers import AdditiveModel, DecidedByOne

pytest.importorskip("captum", reason="the extra explain is not installed")

# Two classes: the log-odds of the first are the difference of the two columns, a sum over units.
SCORES = [[0.5, 0.0], [0.0, 1.5], [0.0, 0.0], [2.0, 0.25], [0.3, 0.3]]
UNITS = [0, 3, 2, 1, 3, 4]
OWN = np.array([0.5, 1.75, 0.0, -1.5, 1.75, 0.0], dtype=np.float32)


@pytest.mark.parametrize("method", ["shapley", "leave-one-out", "integrated-gradients"])
def test_units_that_add_have_what_they_add(method):
    saliency = unit_saliency(UnitScorer(AdditiveModel(SCORES), UNITS), 0, method)
    assert saliency.dtype == np.float32
    assert np.allclose(saliency, OWN, atol=1e-5)
    assert np.allclose(unit_saliency(UnitScorer(AdditiveModel(SCORES), UNITS), 1, method), -OWN, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_units_that_cannot_matter_have_none(method):
    table = np.zeros((6, 3))
    table[4, 1] = 1.0
    saliency = unit_saliency(UnitScorer(AdditiveModel(table), [0, 1, 2, 5, 3, 0, 1, 4]), 1, method)
    # The window of occlusion reaches two neighbours.
    assert (saliency[:5] == 0).all()
    assert saliency.argmax() == 7 and saliency[7] > 0


@pytest.mark.parametrize("method", METHODS)
def test_one_deciding_unit_has_most_of_the_saliency(method):
    saliency = unit_saliency(UnitScorer(DecidedByOne(), [0, 1, 2, 3, 4, 5, 6, 7]), 0, method)
    assert saliency[3] == saliency.max() > 0
    if method != "occlusion":
        # Log-odds of 4 with it, of -4 without.
        assert saliency[3] == pytest.approx(8, abs=0.05)
        assert np.allclose(np.delete(saliency, 3), 0, atol=1e-6)


def test_occlusion_is_the_mean_over_the_windows_of_a_unit():
    falls = [OWN[start : start + 3].sum() for start in range(4)]
    expected = [np.mean([falls[start] for start in range(4) if start <= place < start + 3]) for place in range(6)]
    assert np.allclose(unit_saliency(UnitScorer(AdditiveModel(SCORES), UNITS), 0, "occlusion"), expected, atol=1e-5)


def test_two_units_that_do_the_same_share_it():
    # Leaving one of them out changes nothing: only orders of removal see that they matter.
    scorer = UnitScorer(DecidedByOne(), [3, 1, 3])
    assert np.allclose(unit_saliency(scorer, 0, "leave-one-out"), 0)
    shapley = unit_saliency(scorer, 0, "shapley")
    assert shapley.sum() == pytest.approx(8, abs=1e-4)
    assert shapley[1] == pytest.approx(0, abs=1e-6) and (shapley[[0, 2]] > 1).all()


@pytest.mark.parametrize("readout", ["pooled", "separator", "hidden"])
def test_shapley_values_sum_up_to_what_all_units_say(unit_model, readout):
    scorer = UnitScorer(unit_model(readout=readout), [5, 9, 12, 7, 3, 8, 5])
    odds = log_odds(scorer.logits(torch.stack([torch.ones(7), torch.zeros(7)])), 2)
    assert unit_saliency(scorer, 2, "shapley").sum() == pytest.approx(float(odds[0] - odds[1]), abs=1e-3)


@pytest.mark.parametrize("readout", ["separator", "hidden"])
def test_integrated_gradients_sum_up_to_what_all_embeddings_say(unit_model, readout):
    scorer = UnitScorer(unit_model(readout=readout), [5, 9, 12, 7, 3, 8, 5])
    with torch.no_grad():
        odds = log_odds(scorer.faded_logits(torch.stack([torch.ones(7), torch.zeros(7)])), 2)
    total = unit_saliency(scorer, 2, "integrated-gradients").sum()
    # Fifty steps of the quadrature.
    assert total == pytest.approx(float(odds[0] - odds[1]), abs=0.02 + 0.02 * abs(float(odds[0] - odds[1])))


@pytest.mark.parametrize("method", METHODS)
def test_long_utterances_are_taken_out_in_parts(method, monkeypatch):
    monkeypatch.setattr(module, "_MOST_PARTS", 4)
    scorer = UnitScorer(AdditiveModel(SCORES), [0, 3] * 4)
    saliency = unit_saliency(scorer, 0, method)
    assert saliency.shape == (8,)
    if method == "integrated-gradients":
        assert np.allclose(saliency, [0.5, 1.75] * 4, atol=1e-5)
    elif method != "occlusion":
        assert np.allclose(saliency, 1.125, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("units", [[3], [3, 1]])
def test_the_shortest_utterances(method, units):
    saliency = unit_saliency(UnitScorer(AdditiveModel(SCORES), units), 0, method)
    assert saliency.shape == (len(units),) and np.isfinite(saliency).all()
    if method != "occlusion":
        assert np.allclose(saliency, [1.75, -1.5][: len(units)], atol=1e-5)


def test_draws_are_those_of_the_seed_and_leave_the_global_generator_alone(unit_model):
    scorer = UnitScorer(unit_model(readout="pooled"), [5, 9, 12, 7, 3, 8, 5])
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one, again, other = (unit_saliency(scorer, 0, "shapley", seed=seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_an_unknown_method_is_named():
    with pytest.raises(ConfigurationError, match=r"there is no method 'magic'.*shapley"):
        unit_saliency(UnitScorer(AdditiveModel(SCORES), UNITS), 0, "magic")


def test_without_captum_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def missing(name, *arguments, **options):
        if name.split(".")[0] == "captum":
            raise ImportError("No module named 'captum'")
        return real(name, *arguments, **options)

    monkeypatch.setitem(__import__("sys").modules, "captum.attr", None)
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingDependencyError, match=r"speechprompt-hf\[explain\]"):
        unit_saliency(UnitScorer(AdditiveModel(SCORES), UNITS), 0)
