"""Explanations as pictures: saliency under the waveform, units beside labels, curves of removal."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..core.files import atomic_path
from .labels import LabelExplanation
from .recording import RecordingExplanation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .phones import Phone

__all__ = ["draw_explanation", "draw_labels", "save_figure"]

# The waveform is drawn as the lowest and highest sample of so many slices.
_SLICES = 2000
# Numbers of units are readable up to so many of them an inch.
_UNITS_AN_INCH = 5.0
_LABELS_DRAWN, _UNITS_DRAWN = 40, 60


def draw_explanation(
    explanation: RecordingExplanation,
    waveform: NDArray[np.floating],
    sampling_rate: int,
    phones: Sequence[Phone] | None = None,
) -> Figure:
    """Draw a recording, its units, and how much each speaks for the label, over time.

    Args:
        explanation (`RecordingExplanation`): of T units.
        waveform (`NDArray[float32]` of shape `(S,)`): the recording.
        sampling_rate (`int`): of the waveform, in Hz.
        phones (`Sequence[Phone]`, *optional*): of the same recording, drawn below the waveform.

    Returns:
        `matplotlib.figure.Figure`: with no tie to pyplot; `figure.savefig(…)` writes it.
    """
    seconds = len(waveform) / sampling_rate
    width = float(np.clip(2 + 5 * seconds, 8, 24))
    figure = _new_figure(width, 4.4)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.3])
    _draw_waveform(above, np.asarray(waveform), sampling_rate, explanation)
    if phones:
        _draw_phones(above, phones)
    _draw_saliency(below, explanation, width, seconds)
    below.set_xlim(0, max(seconds, 1e-3))
    below.set_xlabel("seconds")
    best = next(iter(explanation.probabilities))
    title = f"{explanation.label}: {explanation.probability:.3f}"
    if best != explanation.label:
        title += f" (most probable: {best}, {explanation.probabilities[best]:.3f})"
    above.set_title(title, parse_math=False)
    return figure


def draw_labels(explanation: LabelExplanation) -> Figure:
    """Draw which units speak for each label: a row a label, a column a unit that is among some label's strongest.

    Args:
        explanation (`LabelExplanation`): of an adapter; the first 40 labels are drawn.

    Returns:
        `matplotlib.figure.Figure`: with no tie to pyplot; a panel for what is heard and for each kind of weights.
    """
    titles = {
        "heard": "heard alone instead of nothing, log-odds",
        "weights": "weight of the verbalizer, unit expected next",
        "mean_weights": "weight of the verbalizer, mean probability of the unit",
    }
    panels = {name: values for name in titles if (values := getattr(explanation, name)) is not None}
    labels = explanation.labels[:_LABELS_DRAWN]
    figure = _new_figure(14, len(panels) * (1.0 + 0.24 * len(labels)))
    for axes, (name, values) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels.items(), strict=True):
        shown = values[: len(labels)]
        columns = _strongest_columns(shown)
        largest = float(np.abs(shown).max(initial=0)) or 1.0
        image = axes.imshow(shown[:, columns], cmap="RdBu_r", vmin=-largest, vmax=largest, aspect="auto")
        axes.set_xticks(range(len(columns)), [str(unit) for unit in explanation.units[columns]], fontsize=7)
        axes.set_yticks(range(len(labels)), [label[:30] for label in labels], parse_math=False)
        axes.set_title(titles[name], fontsize=10)
        figure.colorbar(image, ax=axes, pad=0.01)
    return figure


def _strongest_columns(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Columns that are among the strongest of some row, rising, at most `_UNITS_DRAWN`."""
    order = np.argsort(-values, axis=1, kind="stable")
    chosen: set[int] = set()
    for rank in range(values.shape[1]):
        more = chosen | set(order[:, rank].tolist())
        if chosen and len(more) > _UNITS_DRAWN:
            break
        chosen = more
    return np.array(sorted(chosen)[:_UNITS_DRAWN], dtype=np.int64)


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as PNG, whole or not at all; equal figures give equal files."""
    with atomic_path(os.fspath(path)) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})


def _new_figure(width: float, height: float) -> Any:
    # The figure class itself: pyplot would choose a window system and keep the figure in its registry.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _colors(saliency: NDArray[np.float32]) -> Any:
    from matplotlib import colormaps

    largest = float(np.abs(saliency).max(initial=0)) or 1.0
    return colormaps["RdBu_r"](0.5 + 0.5 * saliency / largest)


def _draw_waveform(axes: Any, waveform: NDArray[Any], rate: int, explanation: RecordingExplanation) -> None:
    for start, end, color in zip(explanation.starts, explanation.ends, _colors(explanation.saliency), strict=True):
        axes.axvspan(start, end, color=color, alpha=0.8, linewidth=0)
    borders = np.linspace(0, len(waveform), min(_SLICES, len(waveform)) + 1).astype(int)
    low = np.minimum.reduceat(waveform, borders[:-1])
    high = np.maximum.reduceat(waveform, borders[:-1])
    axes.fill_between(borders[:-1] / rate, low, high, color="black", linewidth=0.4, step="mid")
    axes.set_ylabel("waveform")
    axes.set_yticks([])


def _draw_phones(axes: Any, phones: Sequence[Phone]) -> None:
    bottom, top = axes.get_ylim()
    line = bottom - 0.22 * (top - bottom)
    axes.set_ylim(line, top)
    for phone in phones:
        axes.axvline(phone.start, color="black", linewidth=0.5, linestyle=":")
        middle = (phone.start + phone.end) / 2
        axes.text(
            middle, (line + bottom) / 2, phone.name[:12], ha="center", va="center", clip_on=True, parse_math=False
        )


def _draw_saliency(axes: Any, explanation: RecordingExplanation, width: float, seconds: float) -> None:
    lengths = explanation.ends - explanation.starts
    # A mark of prosody lasts for no time and is drawn as a line.
    shown = np.maximum(lengths, 0.002)
    axes.bar(
        explanation.starts,
        explanation.saliency,
        width=shown,
        align="edge",
        color=_colors(explanation.saliency),
        edgecolor="black",
        linewidth=0.4,
    )
    axes.axhline(0, color="black", linewidth=0.8)
    axes.margins(y=0.18)
    axes.set_ylabel(f"for {explanation.label}, log-odds\n({explanation.method})", parse_math=False)
    room = max(seconds, 1e-3) / width / _UNITS_AN_INCH
    written_until = -np.inf
    for unit, start, end, value in zip(
        explanation.units, explanation.starts, explanation.ends, explanation.saliency, strict=True
    ):
        middle = (start + end) / 2
        if middle - written_until < room:
            continue
        written_until = middle
        axes.annotate(
            str(unit),
            (middle, value),
            xytext=(0, 2 if value >= 0 else -2),
            textcoords="offset points",
            ha="center",
            va="bottom" if value >= 0 else "top",
            fontsize=7,
        )
