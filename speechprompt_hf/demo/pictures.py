"""A recording over its units, where no label is explained, and an answer that is speech over its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["UnitsInTime", "draw_speech", "draw_units"]

_DARK, _LIGHT = "#33475b", ("#dbe4ee", "#f3f6fa")
_OWN_END = "#b3261e"
# Numbers that are written closer than this cover each other.
_MIN_SHARE_OF_WIDTH = 0.018


@dataclass(frozen=True, eq=False)
class UnitsInTime:
    """Sound and its units.

    Attributes:
        units (`NDArray[int64]` of shape `(U,)`): without equal neighbours.
        starts (`NDArray[float64]` of shape `(U,)`): seconds.
        ends (`NDArray[float64]` of shape `(U,)`): seconds.
        waveform (`NDArray[float32]` of shape `(S,)`): mono samples.
        sampling_rate (`int`): in Hz.
    """

    units: NDArray[np.int64]
    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    waveform: NDArray[np.float32]
    sampling_rate: int


def draw_units(sound: UnitsInTime) -> Figure:
    """Draw a waveform, and below it its units as spans of time.

    Args:
        sound (`UnitsInTime`): what to draw.

    Returns:
        `Figure`: no state of pyplot is touched.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.6), layout="constrained")
    wave, row = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    _draw(wave, row, sound)
    return figure


def draw_speech(heard: UnitsInTime, answer: UnitsInTime, own_units: int = 0) -> Figure:
    """Draw what was heard and, below it, what was said, each over its units.

    Args:
        heard (`UnitsInTime`): of the recording.
        answer (`UnitsInTime`): of the answer.
        own_units (`int`, defaults to 0): how many units of the answer are the recording's own; a line is drawn behind
            them.

    Returns:
        `Figure`: no state of pyplot is touched.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.4), layout="constrained")
    # matplotlib's hints say one figure, whatever the number of rows.
    parts: Any = figure.subfigures(2)
    above, below = parts
    for part, sound, what in ((above, heard, "recording"), (below, answer, "answer")):
        wave, row = part.subplots(2, sharex=True, height_ratios=(3, 1))
        _draw(wave, row, sound)
        wave.set_ylabel(what)
        if part is below and 0 < own_units < len(sound.units):
            for axes in (wave, row):
                axes.axvline(sound.starts[own_units], color=_OWN_END, linewidth=1.5)
    return figure


def _draw(wave: Any, row: Any, sound: UnitsInTime) -> None:
    waveform, sampling_rate, ends = sound.waveform, sound.sampling_rate, sound.ends
    seconds = np.arange(len(waveform)) / sampling_rate
    # A few thousand points are as many as can be seen.
    step = max(1, len(waveform) // 8000)
    wave.plot(seconds[::step], waveform[::step], color=_DARK, linewidth=0.6)
    wave.set_yticks([])
    wave.set_ylabel("waveform")
    length = max(len(waveform) / sampling_rate, float(ends[-1]) if len(ends) else 0.0)
    spans = zip(sound.units.tolist(), sound.starts.tolist(), ends.tolist(), strict=True)
    for number, (unit, start, end) in enumerate(spans):
        row.axvspan(start, end, color=_LIGHT[number % 2], linewidth=0)
        if end - start >= _MIN_SHARE_OF_WIDTH * length:
            row.text((start + end) / 2, 0.5, str(unit), ha="center", va="center", fontsize=7, color=_DARK)
    row.set_yticks([])
    row.set_ylim(0, 1)
    row.set_xlim(0, length)
    row.set_ylabel("units")
    row.set_xlabel("seconds")
