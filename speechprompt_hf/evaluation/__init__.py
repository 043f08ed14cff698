"""Measuring classifiers and models that say texts: metrics, intervals, baselines, the report. Loads lazily."""

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
    from .continuation_metrics import Diversity, asr_bleu, auto_bleu, diversity, self_bleu
    from .intervals import Interval, accuracy_interval, statistics_interval
    from .metrics import Accuracy, EqualErrorRate, MacroF1, equal_error_rate
    from .perplexity import UnitPerplexity, unit_perplexity
    from .prediction import class_probabilities, predict_files, predict_units
    from .report import REPORT_SCHEMA, build_report, classification_scores, validate_report, write_report
    from .saying import Said, say, say_rows
    from .sequence_adapter import evaluate_sequences
    from .sequence_metrics import SEQUENCE_METRICS, sequence_score, sequence_scores
    from .sequence_report import (
        SEQUENCE_REPORT_SCHEMA,
        build_sequence_report,
        text_scores,
        validate_sequence_report,
    )
    from .speech_adapter import evaluate_speech
    from .unit_quality import AbxResult, PhoneAgreement, abx_error, phone_agreement

_HOME = {
    "Diversity": "continuation_metrics",
    "UnitPerplexity": "perplexity",
    "asr_bleu": "continuation_metrics",
    "auto_bleu": "continuation_metrics",
    "diversity": "continuation_metrics",
    "self_bleu": "continuation_metrics",
    "unit_perplexity": "perplexity",
    "validate_sequence_report": "sequence_report",
    "text_scores": "sequence_report",
    "build_sequence_report": "sequence_report",
    "statistics_interval": "intervals",
    "sequence_scores": "sequence_metrics",
    "sequence_score": "sequence_metrics",
    "say_rows": "saying",
    "say": "saying",
    "evaluate_sequences": "sequence_adapter",
    "evaluate_speech": "speech_adapter",
    "Said": "saying",
    "SEQUENCE_REPORT_SCHEMA": "sequence_report",
    "SEQUENCE_METRICS": "sequence_metrics",
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
    "SEQUENCE_METRICS",
    "SEQUENCE_REPORT_SCHEMA",
    "AbxResult",
    "Accuracy",
    "BaselineResult",
    "Diversity",
    "EqualErrorRate",
    "Interval",
    "MacroF1",
    "PhoneAgreement",
    "Said",
    "UnitPerplexity",
    "abx_error",
    "accuracy_interval",
    "asr_bleu",
    "auto_bleu",
    "build_report",
    "build_sequence_report",
    "class_probabilities",
    "classification_scores",
    "constant_baseline",
    "diversity",
    "encoder_mean_baseline",
    "equal_error_rate",
    "evaluate_adapter",
    "evaluate_sequences",
    "evaluate_speech",
    "hidden_state_baseline",
    "majority_baseline",
    "phone_agreement",
    "predict_files",
    "predict_units",
    "save_confusion_matrix",
    "say",
    "say_rows",
    "self_bleu",
    "sequence_score",
    "sequence_scores",
    "statistics_interval",
    "text_scores",
    "tfidf_baseline",
    "unit_perplexity",
    "validate_report",
    "validate_sequence_report",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
