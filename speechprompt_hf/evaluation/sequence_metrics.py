"""Error rates, BLEU, chrF and scores of slots, over a whole test set, with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import jiwer
import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics import BLEU, CHRF

from ..core.errors import ConfigurationError
from ..tasks import METRIC_DIRECTIONS, text_to_slots
from .intervals import Interval, statistics_interval

__all__ = ["SEQUENCE_METRICS", "Scored", "SequenceMetric", "sequence_score", "sequence_scores", "sequence_values"]

Statistics = NDArray[np.float64]


@dataclass(frozen=True)
class SequenceMetric:
    """A metric that is made of sums over a test set.

    Attributes:
        name (`str`): of `METRIC_DIRECTIONS`.
        statistics (`Callable`): what was to be said and what was said, R texts each → `(R, S)`, what each row
            contributes.
        score (`Callable`): sums `(T, S)` → scores `(T,)`.
    """

    name: str
    statistics: Callable[[Sequence[str], Sequence[str]], Statistics]
    score: Callable[[Statistics], NDArray[np.float64]]


@dataclass(frozen=True)
class Scored:
    """A metric of a test set.

    Attributes:
        name (`str`): of the metric.
        value (`float`): over the whole set: error rates and F1 as shares (an error rate may be above 1), BLEU and chrF
            from 0 to 100.
        interval (`Interval`): of 95 %.
        lower_is_better (`bool`): whether it is an error rate.
    """

    name: str
    value: float
    interval: Interval
    lower_is_better: bool


def sequence_scores(
    metrics: Sequence[str],
    references: Sequence[str],
    said: Sequence[str],
    speakers: Sequence[str | None] | None = None,
    *,
    seed: int = 0,
) -> dict[str, Scored]:
    """Metrics of a test set with their bootstrap intervals, over speakers where they are known.

    Args:
        metrics (`Sequence[str]`): of `SEQUENCE_METRICS`.
        references (`Sequence[str]` of length R): what was to be said, normalised.
        said (`Sequence[str]` of length R): what was said, normalised likewise.
        speakers (`Sequence[str]` of length R, *optional*): see `statistics_interval`.
        seed (`int`, defaults to 0): of the bootstrap.

    Returns:
        `dict[str, Scored]`: in the order of `metrics`.

    Raises:
        ConfigurationError: an unknown metric, no row, or more of one than of the other.
    """
    scores = {}
    for name in metrics:
        metric = _metric(name)
        statistics = _checked_statistics(metric, references, said)
        value = float(metric.score(statistics.sum(0, keepdims=True))[0])
        interval = statistics_interval(statistics, metric.score, speakers, seed=seed)
        scores[name] = Scored(name, value, interval, METRIC_DIRECTIONS[name] == "lower")
    return scores


def sequence_values(metrics: Sequence[str], references: Sequence[str], said: Sequence[str]) -> dict[str, float]:
    """The same without intervals.

    Args:
        metrics (`Sequence[str]`): of `SEQUENCE_METRICS`.
        references (`Sequence[str]` of length R): what was to be said.
        said (`Sequence[str]` of length R): what was said.

    Raises:
        ConfigurationError: as `sequence_scores`.
    """
    return {name: sequence_score(name, references, said) for name in metrics}


def sequence_score(metric: str, references: Sequence[str], said: Sequence[str]) -> float:
    """One metric of a test set.

    Args:
        metric (`str`): of `SEQUENCE_METRICS`.
        references (`Sequence[str]` of length R): what was to be said.
        said (`Sequence[str]` of length R): what was said.

    Raises:
        ConfigurationError: as `sequence_scores`.
    """
    known = _metric(metric)
    return float(known.score(_checked_statistics(known, references, said).sum(0, keepdims=True))[0])


def _metric(name: str) -> SequenceMetric:
    if name not in SEQUENCE_METRICS:
        raise ConfigurationError(f"there is no metric {name!r}", hint=f"one of {', '.join(SEQUENCE_METRICS)}")
    return SEQUENCE_METRICS[name]


def _checked_statistics(metric: SequenceMetric, references: Sequence[str], said: Sequence[str]) -> Statistics:
    if not len(references) or len(references) != len(said):
        raise ConfigurationError(
            f"{metric.name} of {len(references)} references and {len(said)} texts",
            hint="as many of both, at least one",
        )
    return metric.statistics(references, said)


def _errors(reference: str, said: str, *, characters: bool) -> tuple[int, int]:
    """Changes that make one of the other, and tokens of the reference."""
    length = len(reference) if characters else len(reference.split())
    if not length:
        return (len(said) if characters else len(said.split())), 0
    # jiwer's default transformations would strip and collapse blanks, which is done before.
    compared: Any = (jiwer.process_characters if characters else jiwer.process_words)(reference, said)
    return compared.substitutions + compared.deletions + compared.insertions, length


def _word_errors(references: Sequence[str], said: Sequence[str]) -> Statistics:
    pairs = zip(references, said, strict=True)
    return np.array([_errors(reference, text, characters=False) for reference, text in pairs], dtype=np.float64)


def _character_errors(references: Sequence[str], said: Sequence[str]) -> Statistics:
    pairs = zip(references, said, strict=True)
    return np.array([_errors(reference, text, characters=True) for reference, text in pairs], dtype=np.float64)


def _rate(sums: Statistics) -> NDArray[np.float64]:
    """Errors over tokens; without any token the number of errors itself."""
    return sums[:, 0] / np.maximum(sums[:, 1], 1)


def _grouped(text: str) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, value in text_to_slots(text):
        values.setdefault(name, []).append(value)
    return values


def _slot_f1(references: Sequence[str], said: Sequence[str]) -> Statistics:
    """SUPERB's: F1 of the sets of slot names, utterance by utterance."""
    rows = []
    for reference, text in zip(references, said, strict=True):
        wanted, found = {*_grouped(reference)}, {*_grouped(text)}
        # The harmonic mean of precision and recall.
        f1 = 2 * len(wanted & found) / (len(wanted) + len(found)) if wanted or found else 1.0
        rows.append((f1, 1.0))
    return np.array(rows)


def _slot_value_errors(references: Sequence[str], said: Sequence[str]) -> Statistics:
    """SUPERB's: each value of the reference against the nearest said for its slot, or against nothing."""
    rows = []
    for reference, text in zip(references, said, strict=True):
        found = _grouped(text)
        errors = length = 0
        for name, values in _grouped(reference).items():
            for value in values:
                errors += min(_errors(value, other, characters=True)[0] for other in found.get(name, [""]))
                length += len(value)
        rows.append((errors, length))
    return np.array(rows, dtype=np.float64)


def _sacrebleu(name: str, metric: Any) -> SequenceMetric:
    """A metric of sacrebleu, whose sums over a test set are what its own bootstrap adds up."""

    def statistics(references: Sequence[str], said: Sequence[str]) -> Statistics:
        return np.array(metric._extract_corpus_statistics(list(said), [list(references)]), dtype=np.float64)

    def score(sums: Statistics) -> NDArray[np.float64]:
        return np.array([metric._compute_score_from_stats(row.astype(int).tolist()).score for row in sums])

    return SequenceMetric(name, statistics, score)


SEQUENCE_METRICS: Mapping[str, SequenceMetric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            SequenceMetric("wer", _word_errors, _rate),
            SequenceMetric("cer", _character_errors, _rate),
            SequenceMetric("per", _word_errors, _rate),
            SequenceMetric("uer", _word_errors, _rate),
            SequenceMetric("slot_f1", _slot_f1, _rate),
            SequenceMetric("slot_value_cer", _slot_value_errors, _rate),
            # Without a tokenizer's warning for texts that end with a blank before the full stop.
            _sacrebleu("bleu", BLEU(force=True)),
            _sacrebleu("chrf", CHRF()),
        )
    }
)
"""By name. `per` and `uer` are `wer` of phones and of units with blanks between them; `slot_f1` and `slot_value_cer`
are SUPERB's."""
