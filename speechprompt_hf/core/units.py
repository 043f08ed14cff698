"""Discrete units: runs merged into units with durations, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigurationError, UnitError

__all__ = ["UnitSequence", "check_tempo", "expand_runs", "merge_runs", "scaled_durations"]

IntegerArray = NDArray[np.int64]


def _as_integer_vector(values: Sequence[int] | NDArray[np.integer], name: str) -> IntegerArray:
    array = np.asarray(values)
    if array.size == 0:
        return np.zeros(0, dtype=np.int64)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise UnitError(
            f"{name} must be one row of integers, got shape {array.shape} of dtype {array.dtype}",
            hint="pass a list of unit numbers such as [71, 12, 56]",
        )
    return array.astype(np.int64)


def merge_runs(frame_units: Sequence[int] | NDArray[np.integer]) -> tuple[IntegerArray, IntegerArray]:
    """Keep the first unit of every run of equal units.

    Args:
        frame_units (`Sequence[int]` of length T): one unit per frame.

    Returns:
        `tuple[NDArray[int64], NDArray[int64]]`: units of shape `(U,)` without equal neighbours, and durations of shape
        `(U,)` in frames, at least 1 each, whose sum is T.

    Raises:
        UnitError: the input is not one row of integers.

    Example:
        `merge_runs([1, 1, 2, 2, 1])` is `([1, 2, 1], [2, 2, 1])`.

    Source:
        fairseq `examples/textless_nlp/gslm/speech2unit`, `merge: True` in SpeechPrompt's task configurations.
    """
    frames = _as_integer_vector(frame_units, "frame_units")
    if frames.size == 0:
        return frames, frames.copy()
    starts = np.flatnonzero(np.concatenate(([True], frames[1:] != frames[:-1])))
    return frames[starts], np.diff(np.append(starts, frames.size))


def expand_runs(
    units: Sequence[int] | NDArray[np.integer], durations: Sequence[int] | NDArray[np.integer]
) -> IntegerArray:
    """Repeat every unit for its duration: the inverse of `merge_runs`.

    Args:
        units (`Sequence[int]` of length U): units.
        durations (`Sequence[int]` of length U): frames per unit, each at least 1.

    Returns:
        `NDArray[int64]` of shape `(T,)`: one unit per frame.

    Raises:
        UnitError: the lengths differ or a duration is below 1.
    """
    unit_array = _as_integer_vector(units, "units")
    duration_array = _as_integer_vector(durations, "durations")
    if unit_array.shape != duration_array.shape:
        raise UnitError(
            f"{unit_array.size} units came with {duration_array.size} durations",
            hint="give one duration a unit",
        )
    if duration_array.size and duration_array.min() < 1:
        raise UnitError(f"duration {duration_array.min()} is below one frame", hint="durations count frames from 1")
    return np.repeat(unit_array, duration_array)


def scaled_durations(durations: Sequence[int] | NDArray[np.integer], tempo: float) -> IntegerArray:
    """Durations of the same units at another tempo.

    Ends of units are rounded, not their lengths, so that rounding does not add up: of T frames `round(T / tempo)` are
    left, or more where units would last no frame.

    Args:
        durations (`Sequence[int]` of length U): frames a unit, each at least 1.
        tempo (`float`): 2.0 is twice as fast, 0.5 half as fast.

    Returns:
        `NDArray[int64]` of shape `(U,)`: frames a unit, at least 1.

    Raises:
        UnitError: a duration is below 1.
        ConfigurationError: the tempo is not from 0.1 to 10.

    Example:
        `scaled_durations([2, 4, 6], 2.0)` is `[1, 2, 3]`.
    """
    check_tempo(tempo)
    frames = _as_integer_vector(durations, "durations")
    if frames.size and frames.min() < 1:
        raise UnitError(f"duration {frames.min()} is below one frame", hint="durations count frames from 1")
    # Half a frame more is rounded up, whatever is even.
    ends = np.floor(np.cumsum(frames) / tempo + 0.5).astype(np.int64)
    # The least ends that are ends of units of a frame or more: each at least one behind the one before.
    order = np.arange(1, frames.size + 1)
    ends = np.maximum.accumulate(np.maximum(ends - order, 0)) + order
    return np.diff(ends, prepend=0)


def check_tempo(tempo: float) -> None:
    """Refuse what is no tempo.

    Raises:
        ConfigurationError: it is not from 0.1 to 10.
    """
    if not 0.1 <= tempo <= 10:
        raise ConfigurationError(f"tempo is {tempo}", hint="a factor from 0.1 to 10; 2.0 is twice as fast")


@dataclass(frozen=True, eq=False)
class UnitSequence:
    """Units of one recording.

    Attributes:
        units (`NDArray[int64]` of shape `(U,)`): units with equal neighbours merged.
        durations (`NDArray[int64]` of shape `(U,)`): frames per unit; 0 for a mark of prosody between units.
        prosody (`NDArray[int64]` of shape `(U,)`, *optional*): a second stream, one prosody code per unit.

    Raises:
        UnitError: there are more or fewer prosody codes than units.
    """

    units: IntegerArray
    durations: IntegerArray
    prosody: IntegerArray | None = None

    def __post_init__(self) -> None:
        if self.prosody is not None and self.prosody.shape != self.units.shape:
            raise UnitError(
                f"{self.units.size} units came with prosody codes of shape {self.prosody.shape}",
                hint="give one code a unit",
            )

    @classmethod
    def from_frames(cls, frame_units: Sequence[int] | NDArray[np.integer]) -> UnitSequence:
        """Merge the runs of `frame_units` (T frames)."""
        return cls(*merge_runs(frame_units))

    @property
    def frames(self) -> IntegerArray:
        """`NDArray[int64]` of shape `(T,)`: one unit per frame, without marks of prosody."""
        units = self.durations > 0
        return expand_runs(self.units[units], self.durations[units])

    def __len__(self) -> int:
        return int(self.units.size)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, UnitSequence):
            return NotImplemented
        if (self.prosody is None) != (other.prosody is None):
            return False
        pairs = [(self.units, other.units), (self.durations, other.durations)]
        if self.prosody is not None and other.prosody is not None:
            pairs.append((self.prosody, other.prosody))
        return all(np.array_equal(one, another) for one, another in pairs)

    __hash__ = None  # type: ignore[assignment]
