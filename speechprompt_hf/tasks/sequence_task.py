"""The record of one task whose answer is a text: recognition, slots, translation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from ..core.errors import ConfigurationError
from .slots import map_slot_values, read_slots, slots_to_text
from .text_normalization import NORMALIZATIONS, normalize_text

__all__ = [
    "METRIC_DIRECTIONS",
    "SEQUENCE_TASKS",
    "SequenceTask",
    "phone_recognition",
    "sequence_task_by_name",
    "slot_filling",
    "speech_recognition",
    "speech_translation",
]

METRIC_DIRECTIONS: Mapping[str, Literal["lower", "higher"]] = MappingProxyType(
    {
        "wer": "lower",
        "cer": "lower",
        "per": "lower",
        "uer": "lower",
        "slot_value_cer": "lower",
        "bleu": "higher",
        "chrf": "higher",
        "slot_f1": "higher",
    }
)
"""Name of a metric → whether lower or higher is better."""

_TOKENS = ("characters", "words", "subwords")


@dataclass(frozen=True)
class SequenceTask:
    """A task whose answer is a text.

    Attributes:
        name (`str`): short name, used in reports.
        tokens (`str`, defaults to `"characters"`): what the model says one after another: `"characters"`, `"words"`
            (whatever stands between blanks, such as phones) or `"subwords"`.
        text_columns (`tuple[str, ...]`, defaults to `("text",)`): the column of the text. With `has_slots` the columns
            of the slots, a slot a column; one column holds all slots, as JSON or with tags.
        normalization (`str`, defaults to `"none"`): of `NORMALIZATIONS`; done to texts before they are taught and
            measured, to slots value by value.
        metrics (`tuple[str, ...]`, defaults to `("wer", "cer")`): of `METRIC_DIRECTIONS`; the first chooses the epoch.
        has_slots (`bool`, defaults to `False`): the text is made of slots, `[slot] value [/slot]`.
        max_tokens (`int`, defaults to 256): the most tokens of an answer.
        num_subwords (`int`, defaults to 500): of `"subwords"`.

    Raises:
        ConfigurationError: a value that does not exist, no metric or column, or metrics of slots without slots.
    """

    name: str
    tokens: Literal["characters", "words", "subwords"] = "characters"
    text_columns: tuple[str, ...] = ("text",)
    normalization: str = "none"
    metrics: tuple[str, ...] = ("wer", "cer")
    has_slots: bool = False
    max_tokens: int = 256
    num_subwords: int = 500

    def __post_init__(self) -> None:
        if self.tokens not in _TOKENS:
            raise ConfigurationError(f"tokens is {self.tokens!r}", hint=f"one of {', '.join(_TOKENS)}")
        if self.normalization not in NORMALIZATIONS:
            raise ConfigurationError(
                f"normalization is {self.normalization!r}", hint=f"one of {', '.join(NORMALIZATIONS)}"
            )
        unknown = [name for name in self.metrics if name not in METRIC_DIRECTIONS]
        if unknown or not self.metrics:
            raise ConfigurationError(
                f"task {self.name!r} has {f'the metric {unknown[0]!r}' if unknown else 'no metric'}",
                hint=f"metrics are {', '.join(METRIC_DIRECTIONS)}",
            )
        if not self.text_columns:
            raise ConfigurationError(f"task {self.name!r} has no text column", hint="text_columns=('text',)")
        if len(self.text_columns) > 1 and not self.has_slots:
            raise ConfigurationError(
                f"task {self.name!r} has {len(self.text_columns)} text columns: {', '.join(self.text_columns)}",
                hint="one column; several are for tasks with slots",
            )
        if self.max_tokens < 1:
            raise ConfigurationError(f"max_tokens is {self.max_tokens}", hint="at least 1")
        if not self.has_slots and any(name.startswith("slot_") for name in self.metrics):
            raise ConfigurationError(
                f"task {self.name!r} has the metrics {', '.join(self.metrics)} and no slots", hint="has_slots=True"
            )

    @property
    def metric(self) -> str:
        """The metric that chooses the epoch."""
        return self.metrics[0]

    @property
    def lower_is_better(self) -> bool:
        """Whether that metric is an error rate."""
        return METRIC_DIRECTIONS[self.metric] == "lower"

    def normalize(self, text: str) -> str:
        """A text as it is taught and measured."""
        return normalize_text(text, self.normalization)

    def normalize_said(self, text: str) -> str:
        """What a model said, as it is measured: slots value by value."""
        return map_slot_values(self.normalize, text) if self.has_slots else self.normalize(text)

    def text_of(self, row: Mapping[str, Any]) -> str | None:
        """The text that is to be said of a data set's row, normalised.

        Args:
            row (`Mapping`): with the values of `text_columns`.

        Returns:
            `str | None`: `None` where the row has no text. Without any slot it is `""`.

        Raises:
            LabelError: slots that are none, or with brackets in their names or values.
        """
        if not self.has_slots:
            value = row[self.text_columns[0]]
            text = "" if value is None else self.normalize(str(value))
            return text or None
        if len(self.text_columns) == 1:
            pairs = read_slots(row[self.text_columns[0]])
        else:
            pairs = tuple((name, str(row[name])) for name in self.text_columns if row[name] not in (None, ""))
        return slots_to_text((name, self.normalize(value)) for name, value in pairs)

    def as_record(self) -> dict[str, Any]:
        """Its fields as JSON has them; `from_record` reads them."""
        return {
            "name": self.name,
            "tokens": self.tokens,
            "text_columns": list(self.text_columns),
            "normalization": self.normalization,
            "metric": self.metric,
            "metrics": list(self.metrics),
            "has_slots": self.has_slots,
            "max_tokens": self.max_tokens,
            "num_subwords": self.num_subwords,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> SequenceTask:
        """The task of a record.

        Args:
            record (`Mapping`): from `as_record`.

        Raises:
            ConfigurationError: it is none.
        """
        try:
            return cls(
                name=str(record["name"]),
                tokens=record["tokens"],
                text_columns=tuple(map(str, record["text_columns"])),
                normalization=record["normalization"],
                metrics=tuple(map(str, record["metrics"])),
                has_slots=bool(record["has_slots"]),
                max_tokens=int(record["max_tokens"]),
                num_subwords=int(record["num_subwords"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"there is no task of sequences in {str(record)[:200]}", hint="it is damaged: copy it again"
            ) from error


speech_recognition = SequenceTask(name="speech_recognition", normalization="lower", metrics=("wer", "cer"))
"""What is said, character by character, in lower case without punctuation."""

phone_recognition = SequenceTask(
    name="phone_recognition",
    tokens="words",
    text_columns=("phones",),
    normalization="phones",
    metrics=("per",),
)
"""Phones with blanks between them, without stress and word bars."""

slot_filling = SequenceTask(
    name="slot_filling",
    text_columns=("slots_json",),
    normalization="lower",
    metrics=("slot_f1", "slot_value_cer"),
    has_slots=True,
)
"""Slots and their values, measured as in SUPERB: F1 of slot types, character error rate of values."""

speech_translation = SequenceTask(
    name="speech_translation",
    tokens="subwords",
    text_columns=("translation",),
    metrics=("bleu", "chrf"),
)
"""What is said, in another language, as it is written there."""

SEQUENCE_TASKS: Mapping[str, SequenceTask] = MappingProxyType(
    {task.name: task for task in (speech_recognition, phone_recognition, slot_filling, speech_translation)}
)


def sequence_task_by_name(name: str) -> SequenceTask:
    """A ready-made task of sequences.

    Raises:
        ConfigurationError: there is no task of that name.
    """
    if name not in SEQUENCE_TASKS:
        raise ConfigurationError(
            f"there is no ready-made task of sequences {name!r}", hint=f"ready-made: {', '.join(SEQUENCE_TASKS)}"
        )
    return SEQUENCE_TASKS[name]
