"""`report.json`: what was trained and measured, with everything needed to judge it. Its schema: docs/report.md."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score

from ..core.errors import ConfigurationError
from ..core.files import write_json
from ..core.versions import package_versions
from ..data.extraction import SkippedItem
from ..tasks import Task
from ..version import __version__
from .baselines import BaselineResult
from .intervals import accuracy_interval
from .metrics import equal_error_rate

__all__ = [
    "REPORT_SCHEMA",
    "build_report",
    "classification_scores",
    "report_versions",
    "schema_problems",
    "validate_report",
    "write_report",
]

_PACKAGES = ("torch", "transformers", "peft", "accelerate", "datasets", "evaluate", "scikit-learn", "numpy")

Number = (int, float)
REPORT_SCHEMA: dict[str, Any] = {
    "schema": int,
    "accuracy": Number,
    "macro_f1": Number,
    "accuracy_interval": list,
    "interval": {"confidence": Number, "over": str, "method": str},
    "trained_parameters": int,
    "seconds": Number,
    "seed": int,
    "method": str,
    "task": {"name": str, "labels": list, "metric": str},
    "base": (str, type(None)),
    "num_rows": dict,
    "baselines": dict,
    "training": dict,
    "per_label": dict,
    "data": {"source": str, "speakers_apart": (bool, type(None)), "fingerprint": dict},
    "units": (dict, type(None)),
    "versions": dict,
    "skips": list,
    "warnings": list,
}
"""Every key of a report and the type of its value; nested dictionaries likewise. Further keys are allowed."""


def classification_scores(
    task: Task, rows: Dataset, probabilities: NDArray[np.float64], *, seed: int = 0
) -> dict[str, Any]:
    """Accuracy with its interval, macro-F1, the scores of each label, and for two classes the equal error rate.

    Also `kind`: `"audio"` where the units were made of recordings now (the rows then have `content`), else `"units"`.

    Args:
        task (`Task`): the classes.
        rows (`Dataset`): R rows with `label` and `speaker`.
        probabilities (`NDArray[float64]` of shape `(R, M)`): of each class.
        seed (`int`, defaults to 0): of the bootstrap.
    """
    expected = np.array([task.index_of(label) for label in rows["label"]])
    predicted = probabilities.argmax(-1)
    interval = accuracy_interval(predicted == expected, list(rows["speaker"]), seed=seed)
    scores: dict[str, Any] = {
        "accuracy": float(accuracy_score(expected, predicted)),
        "macro_f1": float(f1_score(expected, predicted, average="macro", zero_division=0)),
        "accuracy_interval": [interval.low, interval.high],
        "kind": "audio" if "content" in rows.column_names else "units",
        "interval": {"confidence": interval.confidence, "over": interval.over, "method": interval.method},
        "per_label": {
            label: {
                "num_rows": int((expected == index).sum()),
                "recall": float((predicted[expected == index] == index).mean()),
            }
            for index, label in task.id2label.items()
            if (expected == index).any()
        },
    }
    if task.num_labels == 2 and len(set(expected.tolist())) == 2:
        scores["equal_error_rate"] = equal_error_rate(probabilities[:, 1], expected)
    return scores


def build_report(
    *,
    task: Task,
    scores: Mapping[str, Any],
    baselines: Mapping[str, BaselineResult],
    method: str,
    trained_parameters: int,
    seconds: float,
    seed: int,
    base: str | None,
    data: Mapping[str, Any],
    num_rows: Mapping[str, int],
    units: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    skips: Sequence[SkippedItem] = (),
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """Put a report together; see docs/report.md for every field.

    Args:
        task (`Task`): the classes.
        scores (`Mapping`): from `classification_scores`, on the test rows.
        baselines (`Mapping[str, BaselineResult]`): by name.
        method (`str`): `"prompt"`, `"finetune"` or `"probe"`.
        trained_parameters (`int`): numbers that training changed.
        seconds (`float`): of training.
        seed (`int`): of training.
        base (`str`, *optional*): the base's name.
        data (`Mapping`): `source`, `speakers_apart`, `fingerprint`, and `split`, how the parts were made.
        num_rows (`Mapping[str, int]`): rows with units of each part.
        units (`Mapping`, *optional*): the processor's fingerprint.
        training (`Mapping`, *optional*): settings, history, epochs, validation metric.
        skips (`Sequence[SkippedItem]`): recordings that were left out.
        warnings (`Sequence[str]`): what a reader should know.

    Returns:
        `dict`: a valid report.

    Raises:
        ConfigurationError: a part is missing.
    """
    first = ("accuracy", "macro_f1", "accuracy_interval")
    report: dict[str, Any] = {
        "schema": 1,
        **{name: scores[name] for name in first},
        "trained_parameters": int(trained_parameters),
        "seconds": float(seconds),
        "seed": int(seed),
        "method": method,
        "baselines": {
            name: {
                "accuracy": result.accuracy,
                "trained_parameters": result.num_parameters,
                "seconds": result.seconds,
                **{key: getattr(result, key) for key in ("label", "counted_on") if getattr(result, key) is not None},
            }
            for name, result in baselines.items()
        },
        **{name: value for name, value in scores.items() if name not in first},
        "task": {"name": task.name, "labels": list(task.labels), "metric": task.metric},
        "base": base,
        "num_rows": dict(num_rows),
        "training": dict(training or {}),
        "data": dict(data),
        "units": None if units is None else dict(units),
        "versions": report_versions(),
        "skips": [asdict(skip) for skip in skips],
        "warnings": list(warnings),
    }
    validate_report(report)
    return report


def report_versions(further: Sequence[str] = ()) -> dict[str, str]:
    """Versions of Python, of this package and of those that results depend on; `"absent"` where one is missing.

    Args:
        further (`Sequence[str]`, *optional*): further packages.
    """
    names = (*_PACKAGES, *further)
    found = package_versions(names)
    versions = {name: found.get(name, "absent") for name in names}
    return {"python": platform.python_version(), "speechprompt-hf": __version__, **versions}


def validate_report(report: Mapping[str, Any]) -> None:
    """Compare a report with `REPORT_SCHEMA`.

    Raises:
        ConfigurationError: a key is missing or has a value of another type, or a share is outside [0, 1].
    """
    problems = list(schema_problems(report, REPORT_SCHEMA))
    for name in ("majority", "tfidf"):
        accuracy = report.get("baselines", {}).get(name, {}).get("accuracy")
        if name in report.get("baselines", {}) and not _is_share(accuracy):
            problems.append(f"baselines.{name}.accuracy is {accuracy!r}")
    shares = [report.get("accuracy"), report.get("macro_f1"), *(report.get("accuracy_interval") or [])]
    if not all(map(_is_share, shares)) or len(shares) != 4:
        problems.append(f"accuracy, macro_f1 and the two ends of accuracy_interval are {shares}")
    if problems:
        raise ConfigurationError(
            "the report is not valid: " + "; ".join(problems), hint="docs/report.md has the schema"
        )


def _is_share(value: Any) -> bool:
    return isinstance(value, Number) and 0 <= value <= 1


def schema_problems(value: Any, schema: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What keeps a report from having a schema, one sentence each.

    Args:
        value (`Any`): the report, or a part of it.
        schema (`Mapping`): such as `REPORT_SCHEMA`.
        prefix (`str`, defaults to `""`): of the names of keys.
    """
    problems = []
    for name, kind in schema.items():
        if name not in value:
            problems.append(f"{prefix}{name} is missing")
        elif isinstance(kind, Mapping):
            inner = value[name]
            found = schema_problems(inner, kind, f"{prefix}{name}.") if isinstance(inner, Mapping) else None
            problems += [f"{prefix}{name} is no dictionary"] if found is None else found
        elif not isinstance(value[name], kind) or (isinstance(value[name], bool) and kind in (int, Number)):
            problems.append(f"{prefix}{name} is {value[name]!r}")
    return problems


def write_report(path: str | Path, report: Mapping[str, Any]) -> None:
    """Validate a report and write it, whole or not at all.

    Raises:
        ConfigurationError: the report is not valid.
    """
    validate_report(report)
    write_json(path, report)
