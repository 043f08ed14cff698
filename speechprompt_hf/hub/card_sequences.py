"""What the model card of an adapter says that says sequences: its scores, and what it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from huggingface_hub import EvalResult

from ..modeling.adapter_card import escape_markdown
from .card_facts import AdapterFacts
from .card_text import percent, table

__all__ = [
    "SequenceScore",
    "sequence_evaluations",
    "sequence_limits",
    "sequence_results",
    "sequence_scores",
    "sequence_summary",
    "sequence_task",
]

_TITLES = {
    "wer": "word error rate",
    "cer": "character error rate",
    "per": "phone error rate",
    "uer": "unit error rate",
    "bleu": "BLEU",
    "chrf": "chrF",
    "slot_f1": "slot F1",
    "slot_value_cer": "character error rate of slot values",
}
_UP_TO_100 = ("bleu", "chrf")
_BASELINES = {"most_frequent": "the most frequent text"}


@dataclass(frozen=True)
class SequenceScore:
    """A metric of the test part.

    Attributes:
        value (`float`): error rates and F1 as shares, BLEU and chrF from 0 to 100.
        low, high (`float`, *optional*): its interval.
    """

    value: float
    low: float | None = None
    high: float | None = None


def sequence_scores(report: Mapping[str, Any]) -> dict[str, SequenceScore]:
    """The scores in a report, the one that counts first.

    Args:
        report (`Mapping`): `metric` names the one that counts. The values lie in `scores` or `metrics`, name → number
            or `{"value", "low", "high"}`; or in `value` for that one alone. What is no number is left out.
    """
    first = report.get("metric")
    found: dict[str, Any] = {}
    if isinstance(first, str):
        found[first] = {"value": report.get("value"), **_mapping(report.get("interval"))}
    for key in ("metrics", "scores"):
        found |= _mapping(report.get(key))
    scores = {name: _score(value) for name, value in found.items()}
    return {name: score for name, score in scores.items() if score is not None}


def sequence_task(facts: AdapterFacts) -> tuple[str, str]:
    """The Hub's id and name of what such an adapter does."""
    if facts.answers_with_speech:
        return "audio-to-audio", "Audio-to-Audio"
    return "automatic-speech-recognition", "Automatic Speech Recognition"


def sequence_evaluations(facts: AdapterFacts) -> list[EvalResult]:
    """The same for the metadata."""
    return [
        EvalResult(
            task_type=sequence_task(facts)[0],
            task_name=sequence_task(facts)[1],
            dataset_type=facts.data_name,
            dataset_name=facts.data_name,
            dataset_split="test",
            metric_type=name,
            metric_name=_title(name),
            metric_value=score.value,
        )
        for name, score in sequence_scores(facts.report).items()
    ]


def sequence_summary(facts: AdapterFacts, heading: int) -> str:
    """What it is, and how good."""
    kind, columns = facts.config.get("prompt_type", "deep"), facts.config.get("num_virtual_tokens", 5)
    reader = {
        "prompt": f"A frozen unit language model reads them behind a {kind} prompt of {columns} trained vectors",
        "finetune": "A unit language model, trained whole, reads them",
    }.get(facts.method, facts.method)
    trained = facts.report.get("trained_parameters")
    count = f" ({trained:,} trained parameters)" if isinstance(trained, int) else ""
    task = _mapping(facts.report.get("task")).get("name")
    named = f" Task: {escape_markdown(task)}." if task else ""
    size = int(facts.config.get("output_vocab_size") or 0)
    lines = [
        f"{'#' * heading} {escape_markdown(facts.name)}",
        "",
        f"{_what_it_does(facts, size)}{named} A speech "
        f"encoder and k-means turn the recording into units. {reader}, and a verbalizer says the tokens{count}. "
        "Trained with speechprompt-hf, after [SpeechPrompt](https://arxiv.org/abs/2408.13040).",
    ]
    for name, score in list(sequence_scores(facts.report).items())[:1]:
        rows = _mapping(facts.report.get("num_rows")).get("test", "?")
        interval = _interval(name, score)
        title = _title(name)
        lines += [
            "",
            f"**{title[0].upper()}{title[1:]} {_shown(name, score.value)}**"
            + (f" ({_confidence(facts)} interval {interval})" if interval else "")
            + f" on {escape_markdown(rows)} test recordings; data: {escape_markdown(facts.data_name)}.",
        ]
    return "\n".join(lines)


def sequence_results(facts: AdapterFacts) -> str:
    """A table of the scores beside the baselines'; empty where nothing was measured."""
    scores = sequence_scores(facts.report)
    if not scores:
        return ""
    baselines = {
        name: _mapping(_mapping(values).get("scores", values))
        for name, values in _mapping(facts.report.get("baselines")).items()
    }
    rows = []
    for name, score in scores.items():
        others = [_score(values.get(name)) for values in baselines.values()]
        shown = ["–" if other is None else _shown(name, other.value) for other in others]
        rows.append([_title(name), _shown(name, score.value), _interval(name, score) or "–", *shown])
    titles = [_BASELINES.get(name, escape_markdown(name)) for name in baselines]
    head = ("", "this adapter", f"{_confidence(facts)} interval", *titles)
    text = f"## Results\n\n{table(head, rows)}\n\nOn the test part."
    interval = _mapping(facts.report.get("interval"))
    if interval.get("over"):
        text += f" The intervals are over {escape_markdown(interval['over'])}"
        text += f" ({escape_markdown(interval.get('method', 'unknown method'))})."
    beams = facts.report.get("num_beams")
    return text + (f" Said with {beams} beams." if isinstance(beams, int) and beams > 1 else "")


def _what_it_does(facts: AdapterFacts, size: int) -> str:
    if not facts.answers_with_speech:
        return f"Says a text for a recording, token by token, of an output vocabulary of {size:,} tokens."
    does = {"continuation": "Goes on with", "correction": "Corrects", "translation": "Translates"}
    start = does.get(str(facts.config.get("speech_task")), "Answers")
    units = _mapping(facts.config.get("target_units")).get("num_units", "?")
    return f"{start} a recording, in {escape_markdown(units)} units of speech, which a vocoder makes sound."


def sequence_limits(facts: AdapterFacts) -> list[str]:
    """What a reader should know of any such adapter.

    Args:
        facts (`AdapterFacts`): what is known.
    """
    if facts.answers_with_speech:
        return [
            "Units tell what is said, hardly who says it or how: voice, pitch and pace of the recording are not kept "
            "where it answers.",
            "It needs a vocoder of its units, and says no more than they tell.",
            "Scores hold for recordings and speakers like those of the test part.",
        ]
    return [
        "It says something of every recording, silence included, and knows no token but those of its vocabulary.",
        "Scores hold for recordings and speakers like those of the test part.",
    ]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _score(value: Any) -> SequenceScore | None:
    parts = value if isinstance(value, Mapping) else {"value": value}
    number, low, high = (_number(parts.get(key)) for key in ("value", "low", "high"))
    if number is None:
        return None
    return SequenceScore(number, low, high) if low is not None and high is not None else SequenceScore(number)


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def _title(name: str) -> str:
    return _TITLES.get(name, escape_markdown(name.replace("_", " ")))


def _shown(name: str, value: float) -> str:
    return f"{value:.1f}" if name in _UP_TO_100 else percent(value)


def _interval(name: str, score: SequenceScore) -> str:
    if score.low is None or score.high is None:
        return ""
    return f"{_shown(name, score.low)} to {_shown(name, score.high)}"


def _confidence(facts: AdapterFacts) -> str:
    given = _number(_mapping(facts.report.get("interval")).get("confidence"))
    return f"{100 * (0.95 if given is None else given):g} %"
