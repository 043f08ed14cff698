"""Reports as text for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .console import print_line

__all__ = ["print_report"]

_BASELINES = {
    "majority": "most frequent label",
    "tfidf": "TF-IDF of units + linear",
    "hidden_states": "logistic regression on the language model's states",
    "encoder_mean": "logistic regression on the encoder's mean features",
}


def print_report(report: Mapping[str, Any]) -> None:
    """Accuracy with its interval, beside the baselines.

    Args:
        report (`Mapping`): the content of report.json.
    """
    low, high = report["accuracy_interval"]
    rows = report["num_rows"].get("test", sum(report["num_rows"].values()))
    print_line(
        f"accuracy  {report['accuracy']:.3f}  (95 % interval {low:.3f} to {high:.3f}; "
        f"{rows} recordings{_whose(report)})"
    )
    print_line(f"macro F1  {report['macro_f1']:.3f}")
    print_line("for comparison, on the same recordings:")
    for name, baseline in report["baselines"].items():
        print_line(f"  {baseline['accuracy']:.3f}  {_BASELINES.get(name, name)}")
    if report["seconds"]:
        print_line(f"trained {report['trained_parameters']:,} parameters in {report['seconds']:.0f} s")
    for warning in report["warnings"]:
        print_line(f"note: {warning}")
    if report["skips"]:
        print_line(f"note: {len(report['skips'])} recordings could not be used; the report lists them")


def _whose(report: Mapping[str, Any]) -> str:
    apart = report["data"].get("speakers_apart")
    if apart is None:
        return ""
    return " of speakers that training did not hear" if apart else ", some of speakers that training heard"
