"""The record of one task whose answer is speech: what is read of a row, and what is to be said, both in units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args

from ..core.errors import ConfigurationError
from .sequence_task import SequenceTask
from .unit_pairs import Damage, check_damage, continuation_pair, damaged_units, without_repeats

__all__ = [
    "SPEECH_TASKS",
    "SpeechTask",
    "speech_continuation",
    "speech_task_by_name",
    "speech_translation_to_speech",
    "unit_correction",
    "unit_inpainting",
]

SpeechTaskKind = Literal["continuation", "correction", "translation"]


@dataclass(frozen=True)
class SpeechTask:
    """A task whose answer is speech.

    Attributes:
        name (`str`): short name, used in reports.
        kind (`str`): `"continuation"`: of one recording, its beginning is read and the rest is to be said;
            `"correction"`: damaged units are read and the recording's own are to be said; `"translation"`: one
            recording is read and another one is to be said.
        source_column (`str`, *optional*): the column of what is read; `audio` or `units` by default.
        target_column (`str`, *optional*): of `"translation"`: the column of what is to be said.
        prompt_seconds (`float`, *optional*, defaults to 3.0): of `"continuation"`: the most seconds that are read.
        prompt_share (`float`, defaults to 0.5): of `"continuation"`: the most of a recording that is read.
        damage (`str`, defaults to `"noise"`): of `"correction"`: see `damaged_units`.
        damage_rate (`float`, defaults to 0.2): of `"correction"`: share of the units that are damaged.
        damage_span (`int`, defaults to 5): of `"correction"` of spans: units of a stretch.
        max_tokens (`int`, defaults to 256): the most units of an answer, and one for its end. What follows a
            beginning is cut there; other rows that are longer are left out.

    Raises:
        ConfigurationError: a value that does not exist or is out of range, or a translation without a target.
    """

    name: str
    kind: SpeechTaskKind
    source_column: str | None = None
    target_column: str | None = None
    prompt_seconds: float | None = 3.0
    prompt_share: float = 0.5
    damage: Damage = "noise"
    damage_rate: float = 0.2
    damage_span: int = 5
    max_tokens: int = 256

    def __post_init__(self) -> None:
        if self.kind not in get_args(SpeechTaskKind):
            raise ConfigurationError(
                f"kind is {self.kind!r}", hint=f"one of {', '.join(map(repr, get_args(SpeechTaskKind)))}"
            )
        if (self.kind == "translation") != (self.target_column is not None):
            raise ConfigurationError(
                f"task {self.name!r} of kind {self.kind!r} has the target column {self.target_column!r}",
                hint="a translation has one, other kinds make what is to be said of the recording itself",
            )
        if self.prompt_seconds is not None and not self.prompt_seconds > 0:
            raise ConfigurationError(f"prompt_seconds is {self.prompt_seconds}", hint="above 0")
        if not 0 < self.prompt_share < 1:
            raise ConfigurationError(f"prompt_share is {self.prompt_share}", hint="a share between 0 and 1")
        check_damage(self.damage, self.damage_rate, self.damage_span)
        if self.max_tokens < 2:
            raise ConfigurationError(f"max_tokens is {self.max_tokens}", hint="at least 2")

    @property
    def sequence_task(self) -> SequenceTask:
        """The same as a task of texts of units, such as `"71 12 56"`."""
        return SequenceTask(
            name=self.name,
            tokens="words",
            text_columns=(self.target_column or self.source_column or "units",),
            metrics=("uer",),
            max_tokens=self.max_tokens,
        )

    def pair(
        self,
        units: Sequence[int],
        durations: Sequence[int] | None = None,
        target: Sequence[int] | None = None,
        *,
        num_units: int,
        frame_rate: float | None = None,
        seed: int = 0,
    ) -> tuple[list[int], list[int]] | None:
        """What is read of a row, and what is to be said; the same whenever it is asked for.

        Args:
            units (`Sequence[int]` of length U): merged units of the recording.
            durations (`Sequence[int]` of length U, *optional*): frames of each.
            target (`Sequence[int]`, *optional*): of a translation: units of the other recording.
            num_units (`int`): units that a base reads.
            frame_rate (`float`, *optional*): frames in a second.
            seed (`int`, defaults to 0): of the damage.

        Returns:
            `tuple[list[int], list[int]] | None`: merged units; `None` where a row has too few.
        """
        if self.kind == "translation":
            both = without_repeats(units), without_repeats(target or ())
            return both if all(both) else None
        if self.kind == "correction":
            options = {"damage": self.damage, "rate": self.damage_rate, "span": self.damage_span, "seed": seed}
            clean = without_repeats(units)
            return (damaged_units(clean, num_units, **options), clean) if clean else None  # type: ignore[arg-type]
        frames = None if frame_rate is None or self.prompt_seconds is None else self.prompt_seconds * frame_rate
        return continuation_pair(units, durations, frames=frames, share=self.prompt_share)

    def as_record(self) -> dict[str, Any]:
        """Its fields as JSON has them; `from_record` reads them."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> SpeechTask:
        """The task of a record.

        Args:
            record (`Mapping`): from `as_record`.

        Raises:
            ConfigurationError: it is none.
        """
        try:
            return cls(**record)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"there is no task of speech in {str(record)[:200]}", hint="it is damaged: copy it again"
            ) from error


speech_continuation = SpeechTask("speech_continuation", "continuation")
"""What follows the beginning of a recording, at most 3 seconds of it and at most half."""

unit_correction = SpeechTask("unit_correction", "correction")
"""A recording's units, where a fifth of them were replaced, left out or put in."""

unit_inpainting = SpeechTask("unit_inpainting", "correction", damage="spans", damage_rate=0.3, damage_span=8)
"""A recording's units, where nothing is left of stretches of eight units, three tenths of all."""

speech_translation_to_speech = SpeechTask(
    "speech_translation_to_speech", "translation", source_column="source", target_column="target"
)
"""What one column says, as the other one says it: another language, another voice, a recording without its damage."""

SPEECH_TASKS: Mapping[str, SpeechTask] = MappingProxyType(
    {
        task.name: task
        for task in (speech_continuation, unit_correction, unit_inpainting, speech_translation_to_speech)
    }
)


def speech_task_by_name(name: str) -> SpeechTask:
    """A ready-made task of speech.

    Raises:
        ConfigurationError: there is no task of that name.
    """
    if name not in SPEECH_TASKS:
        raise ConfigurationError(
            f"there is no ready-made task of speech {name!r}", hint=f"ready-made: {', '.join(SPEECH_TASKS)}"
        )
    return SPEECH_TASKS[name]
