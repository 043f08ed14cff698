"""Measuring a classifier: metrics, intervals, baselines, the report. Loads lazily."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adapter import evaluate_adapter
    from .baselines import (
        BASELINES,
        BaselineResult,
        constant_baseline,
        encoder_mean_baseline,
        hidden_state_baseline,
        majority_baseline,
        tfidf_baseline,
    )
    from .confusion import save_confusion_matrix
    from .intervals import Interval, accuracy_interval
    from .metrics import Accuracy, EqualErrorRate, MacroF1, equal_error_rate
    from .prediction import class_probabilities, predict_files, predict_units
    from .report import REPORT_SCHEMA, build_report, classification_scores, validate_report, write_report
    from .unit_quality import AbxResult, PhoneAgreement, abx_error, phone_agreement

_HOME = {
    "AbxResult": "unit_quality",
    "Accuracy": "metrics",
    "BASELINES": "baselines",
    "BaselineResult": "baselines",
    "EqualErrorRate": "metrics",
    "Interval": "intervals",
    "MacroF1": "metrics",
    "PhoneAgreement": "unit_quality",
    "REPORT_SCHEMA": "report",
    "abx_error": "unit_quality",
    "accuracy_interval": "intervals",
    "build_report": "report",
    "class_probabilities": "prediction",
    "classification_scores": "report",
    "constant_baseline": "baselines",
    "encoder_mean_baseline": "baselines",
    "equal_error_rate": "metrics",
    "evaluate_adapter": "adapter",
    "hidden_state_baseline": "baselines",
    "majority_baseline": "baselines",
    "phone_agreement": "unit_quality",
    "predict_files": "prediction",
    "predict_units": "prediction",
    "save_confusion_matrix": "confusion",
    "tfidf_baseline": "baselines",
    "validate_report": "report",
    "write_report": "report",
}

__all__ = [
    "BASELINES",
    "REPORT_SCHEMA",
    "AbxResult",
    "Accuracy",
    "BaselineResult",
    "EqualErrorRate",
    "Interval",
    "MacroF1",
    "PhoneAgreement",
    "abx_error",
    "accuracy_interval",
    "build_report",
    "class_probabilities",
    "classification_scores",
    "constant_baseline",
    "encoder_mean_baseline",
    "equal_error_rate",
    "evaluate_adapter",
    "hidden_state_baseline",
    "majority_baseline",
    "phone_agreement",
    "predict_files",
    "predict_units",
    "save_confusion_matrix",
    "tfidf_baseline",
    "validate_report",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
