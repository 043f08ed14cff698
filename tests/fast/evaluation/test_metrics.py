import itertools

import evaluate
import numpy as np
import pytest
from sklearn.metrics import f1_score

from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.evaluation import Accuracy, EqualErrorRate, MacroF1, accuracy_interval, equal_error_rate


def test_metrics_take_indices_and_names():
    assert Accuracy().compute(predictions=[1, 0, 2], references=[1, 1, 2])["accuracy"] == pytest.approx(2 / 3)
    names = {"predictions": ["a", "b", "b"], "references": ["a", "a", "b"]}
    assert Accuracy().compute(**names)["accuracy"] == pytest.approx(2 / 3)
    expected = f1_score(names["references"], names["predictions"], average="macro")
    assert MacroF1().compute(**names)["macro_f1"] == pytest.approx(expected)


def test_metrics_add_up_over_batches():
    metric = Accuracy()
    metric.add_batch(predictions=[0, 1], references=[0, 0])
    metric.add(prediction=1, reference=1)
    assert metric.compute()["accuracy"] == pytest.approx(2 / 3)


def test_combined_metrics_download_nothing(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("a metric was looked up")

    monkeypatch.setattr("evaluate.loading.evaluation_module_factory", refuse)
    combined = evaluate.combine([Accuracy(), MacroF1(), EqualErrorRate()])
    scores = combined.compute(
        predictions=[0, 1, 1, 0], references=[0, 1, 0, 0], prediction_scores=[0.1, 0.9, 0.8, 0.2]
    )
    assert set(scores) == {"accuracy", "macro_f1", "equal_error_rate"} and scores["accuracy"] == 0.75


def brute_force_equal_error_rate(scores, references):
    """Crossing of misses and false alarms over all thresholds, on a fine line between neighbours."""
    points = []
    for threshold in [np.inf, *sorted(set(scores), reverse=True)]:
        predicted = scores >= threshold
        points.append(
            (
                (predicted & (references == 0)).sum() / (references == 0).sum(),
                (~predicted & (references == 1)).sum() / (references == 1).sum(),
            )
        )
    fine = [
        (1 - t) * np.array(left) + t * np.array(right)
        for left, right in itertools.pairwise(points)
        for t in np.linspace(0, 1, 2001)
    ]
    false_alarms, misses = min(fine, key=lambda point: abs(point[0] - point[1]))
    return (false_alarms + misses) / 2


@pytest.mark.parametrize("seed", range(4))
def test_equal_error_rate_against_all_thresholds(seed):
    generator = np.random.default_rng(seed)
    references = generator.integers(0, 2, 41)
    scores = np.round(references * 0.7 + generator.normal(size=41), 1)
    # The grid of the brute force has 1/2000 of a step.
    assert equal_error_rate(scores, references) == pytest.approx(
        brute_force_equal_error_rate(scores, references), abs=1e-3
    )


def test_equal_error_rate_at_its_ends():
    assert equal_error_rate([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1]) == 0
    assert equal_error_rate([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1]) == 1
    assert equal_error_rate([0.5, 0.5, 0.5, 0.5], [0, 1, 0, 1]) == 0.5
    with pytest.raises(ConfigurationError, match=r"\[1\]"):
        equal_error_rate([0.1, 0.2], [1, 1])


def test_interval_over_rows_has_the_binomial_width():
    generator = np.random.default_rng(0)
    correct = generator.random(400) < 0.8
    interval = accuracy_interval(correct)
    mean = correct.mean()
    half = 1.96 * np.sqrt(mean * (1 - mean) / 400)
    assert interval.over == "rows" and interval.low < mean < interval.high
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.1)
    assert accuracy_interval(correct) == interval


def test_interval_over_speakers_is_wider_where_speakers_differ():
    speakers = [f"s{row // 20}" for row in range(400)]
    correct = np.array([row // 20 % 4 != 0 or row % 20 == 0 for row in range(400)])
    by_speaker, by_row = accuracy_interval(correct, speakers), accuracy_interval(correct)
    assert by_speaker.over == "speakers" and by_row.over == "rows"
    assert by_speaker.high - by_speaker.low > 2 * (by_row.high - by_row.low)


@pytest.mark.parametrize("speakers", [[f"s{row % 7}" for row in range(40)], [None] * 40, [None, *"abcdefghi"] * 4])
def test_few_or_unknown_speakers_are_not_drawn(speakers):
    assert accuracy_interval([True, False] * 20, speakers).over == "rows"


def test_all_right_has_an_exact_interval_below_one():
    interval = accuracy_interval([True] * 50)
    # Clopper-Pearson for 50 of 50: 0.025 ** (1 / 50).
    assert interval.low == pytest.approx(0.025 ** (1 / 50)) and interval.high == 1
    assert interval.method == "exact binomial"
    assert accuracy_interval([False] * 50).low == 0
    with pytest.raises(ConfigurationError):
        accuracy_interval([])
