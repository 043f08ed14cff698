"""A picture a data set: dots with intervals, or curves over the number of shots."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from .summary import Line

__all__ = ["as_png", "draw", "new_figure", "reach"]


def draw(title: str, lines: Sequence[Line]) -> bytes:
    """The accuracy of every method on one data set.

    Args:
        title (`str`): of the picture.
        lines (`Sequence[Line]`): of one data set, in the order of the table.

    Returns:
        `bytes`: a PNG; the same lines give the same bytes.
    """
    methods = list(dict.fromkeys(line.method for line in lines))
    has_curves = len({line.shots for line in lines}) > 1
    height = 4.5 if has_curves else 1.4 + 0.32 * len(methods)
    figure = new_figure(7.5, height)
    axes = figure.add_subplot()
    if has_curves:
        _curves(axes, methods, lines)
    else:
        _dots(axes, methods, lines)
    axes.set_title(title)
    axes.grid(alpha=0.3)
    return as_png(figure)


def new_figure(width: float, height: float) -> Any:
    """A figure of so many inches that `as_png` takes."""
    # The figure class itself: pyplot would choose a window system and keep the figure in its registry.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def as_png(figure: Any) -> bytes:
    """The bytes of a picture, equal for equal figures."""
    stream = io.BytesIO()
    # Without the date and the version, equal results are equal files.
    figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
    return stream.getvalue()


def reach(accuracy: float, interval: tuple[float, float]) -> tuple[float, float]:
    """Lengths of an interval to both sides."""
    return max(accuracy - interval[0], 0.0), max(interval[1] - accuracy, 0.0)


def _dots(axes: Any, methods: Sequence[str], lines: Sequence[Line]) -> None:
    for line in lines:
        row = methods.index(line.method)
        low, high = reach(line.accuracy, line.interval)
        axes.errorbar(line.accuracy, row, xerr=[[low], [high]], fmt="o", color="C0", capsize=3)
        if line.deviation is not None:
            # Over seeds, thick, inside the interval over speakers.
            axes.plot([line.accuracy - line.deviation, line.accuracy + line.deviation], [row, row], "C0", linewidth=4)
    baselines = {line.baseline for line in lines} - {None}
    for line in lines:
        if line.method in baselines:
            axes.axvline(line.accuracy, color="C3", linewidth=1, linestyle=":")
    axes.set_yticks(range(len(methods)), methods)
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.set_xlabel("accuracy, 95 % interval (thick: deviation over seeds; dotted: baseline)")


def _curves(axes: Any, methods: Sequence[str], lines: Sequence[Line]) -> None:
    for number, method in enumerate(methods):
        mine = sorted((line for line in lines if line.method == method), key=lambda line: line.shots or 0)
        reaches = [reach(line.accuracy, line.interval) for line in mine]
        axes.errorbar(
            [line.shots for line in mine],
            [line.accuracy for line in mine],
            yerr=[[low for low, _ in reaches], [high for _, high in reaches]],
            fmt="o-",
            color=f"C{number % 10}",
            capsize=3,
            label=method,
        )
    shots = sorted({line.shots for line in lines if line.shots is not None})
    axes.set_xscale("log")
    axes.set_xticks(shots, [str(shot) for shot in shots])
    axes.minorticks_off()
    axes.set_xlabel("training rows a class")
    axes.set_ylabel("accuracy, 95 % interval")
    axes.legend(fontsize=8)
