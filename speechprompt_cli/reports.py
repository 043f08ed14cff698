"""Reports as text for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .console import print_line

__all__ = ["print_notes", "print_report", "whose_speakers"]

_BASELINES = {
    "majority": "most frequent label",
    "tfidf": "TF-IDF of units + linear",
    "hidden_states": "logistic regression on the language model's states",
    "encoder_mean": "logistic regression on the encoder's mean features",
}
_COUNTED_ON = {"training rows": "in training", "measured rows": "of these rows"}
_LONGEST_REASON = 200


def print_report(report: Mapping[str, Any], *, listed: str = "the report lists them") -> None:
    """Accuracy with its interval, beside the baselines, and what was left out for which reason.

    Args:
        report (`Mapping`): the content of report.json.
        listed (`str`, *optional*): where a reader finds all rows that were left out.
    """
    low, high = report["accuracy_interval"]
    rows = report["num_rows"].get("test", sum(report["num_rows"].values()))
    _, what = _kind_of_rows(report)
    whose = whose_speakers(report)
    print_line(f"accuracy  {report['accuracy']:.3f}  (95 % interval {low:.3f} to {high:.3f}; {rows} {what}{whose})")
    print_line(f"macro F1  {report['macro_f1']:.3f}")
    print_line(f"for comparison, on the same {what}:")
    for name, baseline in report["baselines"].items():
        print_line(f"  {baseline['accuracy']:.3f}  {_called(name, baseline)}")
    print_notes(report, listed=listed)


def print_notes(report: Mapping[str, Any], *, listed: str) -> None:
    """What was trained, what a reader should know, and what was left out for which reason.

    Args:
        report (`Mapping`): of any kind of task.
        listed (`str`): where a reader finds all rows that were left out.
    """
    one, what = _kind_of_rows(report)
    if report["seconds"]:
        print_line(f"trained {report['trained_parameters']:,} parameters in {report['seconds']:.0f} s")
    for warning in report["warnings"]:
        print_line(f"note: {warning}")
    if report["skips"]:
        number = len(report["skips"])
        print_line(f"note: {number} {one if number == 1 else what} could not be used; {listed}")
        for reason in _reasons(report["skips"]):
            print_line(f"  {reason}")


def _kind_of_rows(report: Mapping[str, Any]) -> tuple[str, str]:
    # Reports of earlier versions do not say what they were made of.
    return ("row of units", "rows of units") if report.get("kind") == "units" else ("recording", "recordings")


def _called(name: str, baseline: Mapping[str, Any]) -> str:
    text = _BASELINES.get(name, name)
    where = _COUNTED_ON.get(str(baseline.get("counted_on")))
    return text if where is None else f"{text} {where} ({baseline.get('label')})"


def _reasons(skips: list[Mapping[str, str]]) -> list[str]:
    """A line for each kind of error: how many rows, and the first of them."""
    by_error: dict[str, list[Mapping[str, str]]] = {}
    for skip in skips:
        by_error.setdefault(skip["error"], []).append(skip)
    lines = []
    for error, found in sorted(by_error.items(), key=lambda entry: -len(entry[1])):
        item, message = found[0]["item"], " ".join(found[0]["message"].split())
        first = message if item in message else f"{item}: {message}"
        lines.append(f"{len(found)} {error}, first {first}"[:_LONGEST_REASON])
    return lines


def whose_speakers(report: Mapping[str, Any]) -> str:
    """Whether training heard the speakers of a report; nothing where they are unknown."""
    apart = report["data"].get("speakers_apart")
    if apart is None:
        return ""
    return " of speakers that training did not hear" if apart else ", some of speakers that training heard"
