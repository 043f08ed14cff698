"""`report.json` of tasks whose answer is a text: scores with intervals, a baseline, examples. See docs/report.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datasets import Dataset

from ..core.errors import ConfigurationError
from ..core.files import write_json
from ..data.extraction import SkippedItem
from ..tasks import SequenceTask
from .report import report_versions, schema_problems
from .saying import Said
from .sequence_metrics import sequence_scores, sequence_values

__all__ = [
    "SEQUENCE_REPORT_SCHEMA",
    "build_sequence_report",
    "constant_text_baseline",
    "most_frequent_text",
    "text_scores",
    "validate_sequence_report",
    "write_sequence_report",
]

_PACKAGES = ("jiwer", "sacrebleu", "tokenizers")
_NUM_EXAMPLES = 20

Number = (int, float)
SEQUENCE_REPORT_SCHEMA: dict[str, Any] = {
    "schema": int,
    "output": str,
    "metric": str,
    "value": Number,
    "interval": {"low": Number, "high": Number, "confidence": Number, "over": str, "method": str},
    "scores": dict,
    "examples": list,
    "num_beams": int,
    "trained_parameters": int,
    "seconds": Number,
    "seed": int,
    "method": str,
    "task": {"name": str, "tokens": str, "metric": str, "metrics": list, "normalization": str, "text_columns": list},
    "base": (str, type(None)),
    "num_rows": dict,
    "baselines": dict,
    "training": dict,
    "data": {"source": str, "speakers_apart": (bool, type(None)), "fingerprint": dict},
    "units": (dict, type(None)),
    "versions": dict,
    "skips": list,
    "warnings": list,
}
"""Every key of such a report and the type of its value; `output` is `"text"`. Further keys are allowed."""


def text_scores(task: SequenceTask, rows: Dataset, answers: Sequence[Said], *, seed: int = 0) -> dict[str, Any]:
    """The task's metrics with their intervals, the metric that counts, and examples.

    Args:
        task (`SequenceTask`): how it is measured.
        rows (`Dataset`): R rows with `label` (the normalised text), `speaker` and `item`.
        answers (`Sequence[Said]` of length R): what was said of them; it is normalised as the texts are.
        seed (`int`, defaults to 0): of the bootstrap.

    Returns:
        `dict`: `metric`, `value`, `interval`, `scores`, `examples` (20 rows at even distances), and `kind`, `"audio"`
            where the units were made of recordings now, else `"units"`.
    """
    references = list(rows["label"])
    said = [task.normalize_said(answer.text) for answer in answers]
    scored = sequence_scores(task.metrics, references, said, list(rows["speaker"]), seed=seed)
    first = scored[task.metric]
    chosen = range(0, len(references), max(1, -(-len(references) // _NUM_EXAMPLES)))
    return {
        "metric": task.metric,
        "value": first.value,
        "interval": asdict(first.interval),
        "scores": {
            name: {"value": each.value, "lower_is_better": each.lower_is_better, **asdict(each.interval)}
            for name, each in scored.items()
        },
        "kind": "audio" if "content" in rows.column_names else "units",
        "examples": [
            {
                "item": rows["item"][number],
                "reference": references[number],
                "said": said[number],
                "score": answers[number].score,
            }
            for number in chosen
        ],
    }


def most_frequent_text(texts: Sequence[str]) -> str:
    """The most frequent of some texts, of equally frequent ones the first in the alphabet.

    Args:
        texts (`Sequence[str]`): at least one.
    """
    counts = Counter(texts)
    return min(counts, key=lambda text: (-counts[text], text))


def constant_text_baseline(
    task: SequenceTask, text: str, rows: Dataset, counted_on: str = "training rows"
) -> dict[str, Any]:
    """What saying one text always is worth.

    Args:
        task (`SequenceTask`): how it is measured.
        text (`str`): what is said.
        rows (`Dataset`): rows with `label`.
        counted_on (`str`, defaults to `"training rows"`): where that text is the most frequent.

    Returns:
        `dict`: `text`, `counted_on`, and `scores`, the value of each metric.
    """
    values = sequence_values(task.metrics, list(rows["label"]), [text] * len(rows))
    return {"text": text, "counted_on": counted_on, "scores": values}


def build_sequence_report(
    *,
    task: SequenceTask,
    scores: Mapping[str, Any],
    baselines: Mapping[str, Mapping[str, Any]],
    method: str,
    trained_parameters: int,
    seconds: float,
    seed: int,
    num_beams: int,
    base: str | None,
    data: Mapping[str, Any],
    num_rows: Mapping[str, int],
    units: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    skips: Sequence[SkippedItem] = (),
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """Put a report together; see `SEQUENCE_REPORT_SCHEMA`.

    Args:
        task (`SequenceTask`): what is said.
        scores (`Mapping`): from `text_scores`, on the test rows.
        baselines (`Mapping`): by name, from `constant_text_baseline`.
        method (`str`): `"prompt"` or `"finetune"`.
        trained_parameters (`int`): numbers that training changed.
        seconds (`float`): of training.
        seed (`int`): of training.
        num_beams (`int`): of the answers.
        base (`str`, *optional*): the base's name.
        data (`Mapping`): `source`, `speakers_apart`, `fingerprint`, and `split`, how the parts were made.
        num_rows (`Mapping[str, int]`): rows with units of each part.
        units (`Mapping`, *optional*): the processor's fingerprint.
        training (`Mapping`, *optional*): settings, history, epochs, validation metric.
        skips (`Sequence[SkippedItem]`): rows that were left out.
        warnings (`Sequence[str]`): what a reader should know.

    Returns:
        `dict`: a valid report.

    Raises:
        ConfigurationError: a part is missing.
    """
    report: dict[str, Any] = {
        "schema": 1,
        "output": "text",
        **scores,
        "trained_parameters": int(trained_parameters),
        "seconds": float(seconds),
        "seed": int(seed),
        "method": method,
        "num_beams": num_beams,
        "baselines": {name: dict(baseline) for name, baseline in baselines.items()},
        "task": task.as_record(),
        "base": base,
        "num_rows": dict(num_rows),
        "training": dict(training or {}),
        "data": dict(data),
        "units": None if units is None else dict(units),
        "versions": report_versions(_PACKAGES),
        "skips": [asdict(skip) for skip in skips],
        "warnings": list(warnings),
    }
    validate_sequence_report(report)
    return report


def validate_sequence_report(report: Mapping[str, Any]) -> None:
    """Compare a report with `SEQUENCE_REPORT_SCHEMA`.

    Raises:
        ConfigurationError: a key is missing or has a value of another type.
    """
    problems = schema_problems(report, SEQUENCE_REPORT_SCHEMA)
    if report.get("output") != "text":
        problems.append(f"output is {report.get('output')!r}")
    if problems:
        raise ConfigurationError(
            "the report is not valid: " + "; ".join(problems), hint="docs/report.md has the schema"
        )


def write_sequence_report(path: str | Path, report: Mapping[str, Any]) -> None:
    """Validate a report and write it, whole or not at all.

    Raises:
        ConfigurationError: the report is not valid.
    """
    validate_sequence_report(report)
    write_json(path, report)
