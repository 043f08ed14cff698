"""A picture a task: accuracy of every method beside chance, a panel for each number of ways and shots."""

from __future__ import annotations

from collections.abc import Sequence

from ..plots import as_png, new_figure, reach
from .summary import InContextLine

__all__ = ["draw_task"]


def draw_task(title: str, lines: Sequence[InContextLine]) -> bytes:
    """The accuracies of a task.

    Args:
        title (`str`): of the picture.
        lines (`Sequence[InContextLine]`): of one task, in the order of the table; at least one.

    Returns:
        `bytes`: a PNG; the same lines give the same bytes.
    """
    panels = list(dict.fromkeys((line.dataset, line.ways) for line in lines))
    methods = list(dict.fromkeys(line.method for line in lines))
    shots = sorted({line.shots for line in lines})
    figure = new_figure(1 + 3.2 * len(panels), 1.3 + 0.32 * len(methods) * len(shots))
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    names = [f"{method}, {number}-shot" for method in methods for number in shots]
    for each, (dataset, ways) in zip(axes, panels, strict=True):
        for line in lines:
            if (line.dataset, line.ways) == (dataset, ways):
                row = names.index(f"{line.method}, {line.shots}-shot")
                low, high = reach(line.accuracy, line.interval)
                color = f"C{methods.index(line.method) % 10}"
                each.errorbar(line.accuracy, row, xerr=[[low], [high]], fmt="o", color=color, capsize=3)
        each.axvline(1 / ways, color="C3", linewidth=1, linestyle=":")
        each.set_title(f"{dataset}, {ways}-way", fontsize=10)
        each.set_xlim(0, 1.02)
        each.grid(alpha=0.3)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    figure.suptitle(title)
    figure.supxlabel("accuracy, 95 % interval (dotted: chance)", fontsize=10)
    return as_png(figure)
