"""A recording over its units, where no label is explained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_units"]

_DARK, _LIGHT = "#33475b", ("#dbe4ee", "#f3f6fa")
# Numbers that are written closer than this cover each other.
_MIN_SHARE_OF_WIDTH = 0.018


def draw_units(
    units: NDArray[np.int64],
    starts: NDArray[np.float64],
    ends: NDArray[np.float64],
    waveform: NDArray[np.float32],
    sampling_rate: int,
) -> Figure:
    """Draw a waveform, and below it its units as spans of time.

    Args:
        units (`NDArray[int64]` of shape `(U,)`): without equal neighbours.
        starts (`NDArray[float64]` of shape `(U,)`): seconds.
        ends (`NDArray[float64]` of shape `(U,)`): seconds.
        waveform (`NDArray[float32]` of shape `(S,)`): mono samples.
        sampling_rate (`int`): in Hz.

    Returns:
        `Figure`: no state of pyplot is touched.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.6), layout="constrained")
    wave, row = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    seconds = np.arange(len(waveform)) / sampling_rate
    # A few thousand points are as many as can be seen.
    step = max(1, len(waveform) // 8000)
    wave.plot(seconds[::step], waveform[::step], color=_DARK, linewidth=0.6)
    wave.set_yticks([])
    wave.set_ylabel("waveform")
    length = max(len(waveform) / sampling_rate, float(ends[-1]) if len(ends) else 0.0)
    for number, (unit, start, end) in enumerate(zip(units.tolist(), starts.tolist(), ends.tolist(), strict=True)):
        row.axvspan(start, end, color=_LIGHT[number % 2], linewidth=0)
        if end - start >= _MIN_SHARE_OF_WIDTH * length:
            row.text((start + end) / 2, 0.5, str(unit), ha="center", va="center", fontsize=7, color=_DARK)
    row.set_yticks([])
    row.set_ylim(0, 1)
    row.set_xlim(0, length)
    row.set_ylabel("units")
    row.set_xlabel("seconds")
    return figure
