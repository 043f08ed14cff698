"""Metrics as `evaluate.Metric` classes over scikit-learn: no script is downloaded, `evaluate.combine` takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import evaluate
import numpy as np
from datasets import Features, Value
from numpy.typing import ArrayLike
from sklearn.metrics import accuracy_score, f1_score, roc_curve

from ..core.errors import ConfigurationError

__all__ = ["Accuracy", "EqualErrorRate", "MacroF1", "equal_error_rate"]

_LABEL_TYPES = ("int64", "string")


class _LabelMetric(evaluate.Metric):
    """A metric of predicted and true labels, both class indices or both class names; kept in memory."""

    description = ""

    def __init__(self, **options: Any) -> None:
        options.setdefault("keep_in_memory", options.get("num_process", 1) == 1)
        super().__init__(**options)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.description,
            citation="",
            inputs_description="predictions and references: class indices, or class names.",
            features=[Features({"predictions": Value(kind), "references": Value(kind)}) for kind in _LABEL_TYPES],
        )


class Accuracy(_LabelMetric):
    """Share of rows whose predicted class is the true one: `{"accuracy": float}`.

    Example:
        `Accuracy().compute(predictions=[1, 0], references=[1, 1])` is `{"accuracy": 0.5}`.
    """

    description = "Share of rows whose predicted class is the true one."

    def _compute(self, predictions: Sequence[Any], references: Sequence[Any], **_: Any) -> dict[str, float]:
        return {"accuracy": float(accuracy_score(references, predictions))}


class MacroF1(_LabelMetric):
    """Mean over classes of the harmonic mean of precision and recall: `{"macro_f1": float}`.

    Classes are those that occur in either column; one that is never predicted right counts 0.
    """

    description = "Mean over classes of the harmonic mean of precision and recall."

    def _compute(self, predictions: Sequence[Any], references: Sequence[Any], **_: Any) -> dict[str, float]:
        return {"macro_f1": float(f1_score(references, predictions, average="macro", zero_division=0))}


class EqualErrorRate(evaluate.Metric):
    """Error rate of a two-class detector where it misses as often as it raises a false alarm.

    `compute(prediction_scores=…, references=…)` takes a score per row, higher for class 1, and the class 0 or 1;
    inside `evaluate.combine` the scores travel beside the predictions: `combine([Accuracy(), EqualErrorRate()])
    .compute(predictions=…, references=…, prediction_scores=…)`. Returns `{"equal_error_rate": float}`.
    """

    def __init__(self, **options: Any) -> None:
        options.setdefault("keep_in_memory", options.get("num_process", 1) == 1)
        super().__init__(**options)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Error rate at the threshold where misses are as frequent as false alarms.",
            citation="",
            inputs_description="prediction_scores: higher for class 1; references: 0 or 1.",
            features=Features({"prediction_scores": Value("float64"), "references": Value("int64")}),
        )

    def _compute(self, prediction_scores: Sequence[float], references: Sequence[int], **_: Any) -> dict[str, float]:
        return {"equal_error_rate": equal_error_rate(prediction_scores, references)}


def equal_error_rate(scores: ArrayLike, references: ArrayLike) -> float:
    """Equal error rate, interpolated between the two thresholds where the difference of the rates changes its sign.

    Args:
        scores (`ArrayLike` of length R): higher means class 1.
        references (`ArrayLike` of length R): 0 or 1.

    Returns:
        `float` in [0, 1]; 0.5 is chance.

    Raises:
        ConfigurationError: the references are not two classes 0 and 1.
    """
    classes = set(np.asarray(references).tolist())
    if classes != {0, 1}:
        raise ConfigurationError(
            f"the equal error rate needs rows of the classes 0 and 1, there are {sorted(classes)}",
            hint="use accuracy or macro-F1",
        )
    false_alarms, hits, _ = roc_curve(references, np.asarray(scores, dtype=np.float64), drop_intermediate=False)
    misses = 1 - hits
    difference = misses - false_alarms
    after = int(np.argmax(difference <= 0))
    before = max(after - 1, 0)
    span = difference[before] - difference[after]
    share = difference[before] / span if span > 0 else 0.0
    return float(false_alarms[before] + share * (false_alarms[after] - false_alarms[before]))
