import numpy as np
import pytest
import torch

from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.explanation import UnitScorer, fall_ratio, removal_curves
from speechprompt_hf.explanation.faithfulness import kept_along, num_removed
from tests.fixtures.made_up_classifiers import AdditiveModel, DecidedByOne

YES, NO = 1 / (1 + np.exp(-4)), 1 / (1 + np.exp(4))


def test_the_deciding_unit_is_the_whole_deletion_curve():
    scorer = UnitScorer(DecidedByOne(10), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    oracle = np.eye(10)[3]
    curves = removal_curves(scorer, 0, oracle, num_random=400, seed=1)
    assert np.allclose(curves.deletion, [YES] + [NO] * 10)
    assert np.allclose(curves.insertion, [NO] + [YES] * 10)
    # A random order has met the unit with the probability of the share that is gone.
    expected = YES - (YES - NO) * curves.fractions
    assert np.allclose(curves.random_deletion, expected, atol=0.07)
    assert np.allclose(curves.random_insertion, expected[::-1], atol=0.07)
    salient, random = curves.falls()
    assert salient == pytest.approx(YES - NO) and salient / random == pytest.approx(5, rel=0.4)
    # The ends do not depend on the order.
    worst = removal_curves(scorer, 0, -oracle, num_random=1)
    for one in (curves, worst):
        assert one.deletion[[0, -1]] == pytest.approx([YES, NO])
        assert one.insertion[[0, -1]] == pytest.approx([NO, YES])
    assert curves.areas["deletion"] < curves.areas["random_deletion"] < worst.areas["deletion"]
    assert curves.areas["insertion"] > curves.areas["random_insertion"] > worst.areas["insertion"]


def test_curves_of_one_unit():
    curves = removal_curves(UnitScorer(AdditiveModel([[2.0, 0.0]]), [0]), 0, np.ones(1), fractions=(0, 0.2, 1))
    assert np.allclose(curves.deletion, [1 / (1 + np.exp(-2)), 0.5, 0.5])
    assert curves.falls(0.2)[0] == pytest.approx(curves.falls(0.2)[1])


@pytest.mark.parametrize(
    ("units", "fraction", "expected"),
    [(10, 0.2, 2), (7, 0.2, 1), (8, 0.2, 2), (1, 0.2, 1), (3, 0.0, 0), (3, 1.0, 3), (0, 0.5, 0), (5, 0.5, 3)],
)
def test_shares_of_units(units, fraction, expected):
    assert num_removed(units, fraction) == expected


def test_what_is_kept_follows_the_order():
    order = [2, 0, 3, 1]
    assert kept_along(order, (0, 0.25, 0.5, 1)).int().tolist() == [[1, 1, 1, 1], [1, 1, 0, 1], [0, 1, 0, 1], [0] * 4]
    assert torch.equal(kept_along(order, (0, 0.5, 1), insert=True), ~kept_along(order, (0, 0.5, 1)))


def test_the_ratio_is_one_of_means_within_its_interval():
    generator = np.random.default_rng(0)
    random = generator.uniform(0, 0.2, 200)
    salient = 3 * random + generator.normal(0, 0.02, 200)
    ratio = fall_ratio(salient, random)
    assert ratio.ratio == pytest.approx(salient.mean() / random.mean())
    assert ratio.low < ratio.ratio < ratio.high and ratio.high - ratio.low < 0.2
    assert (ratio.salient, ratio.random) == pytest.approx((salient.mean(), random.mean()))
    assert ratio.rows == 200


def test_random_units_without_an_effect_make_an_infinite_ratio():
    ratio = fall_ratio([0.5, 0.4], [0.0, 0.0])
    assert ratio.ratio == ratio.low == ratio.high == np.inf


@pytest.mark.parametrize(("salient", "random"), [([], []), ([0.1], [])])
def test_a_ratio_of_nothing_is_refused(salient, random):
    with pytest.raises(ConfigurationError, match=r"falls without salient units"):
        fall_ratio(salient, random)


def test_wrong_curves_are_refused():
    scorer = UnitScorer(DecidedByOne(), [0, 1, 3])
    with pytest.raises(ConfigurationError, match="3 units came with 2 saliencies"):
        removal_curves(scorer, 0, np.zeros(2))
    with pytest.raises(ConfigurationError, match="0 random orders"):
        removal_curves(scorer, 0, np.zeros(3), num_random=0)
    with pytest.raises(ConfigurationError, match=r"no fraction 0\.15"):
        removal_curves(scorer, 0, np.zeros(3)).falls(0.15)
