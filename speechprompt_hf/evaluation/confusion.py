"""The confusion matrix as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import confusion_matrix

from ..core.files import atomic_path

__all__ = ["save_confusion_matrix"]

# Numbers in cells are readable up to this many classes.
_MAX_WRITTEN = 25


def save_confusion_matrix(
    path: str | Path, expected: Sequence[str], predicted: Sequence[str], labels: Sequence[str]
) -> np.ndarray:
    """Draw how often each true class was taken for each class.

    Args:
        path (`str | Path`): a `.png` file, written whole or not at all.
        expected (`Sequence[str]` of length R): true class names.
        predicted (`Sequence[str]` of length R): predicted class names.
        labels (`Sequence[str]` of length M): all class names in the order of rows and columns.

    Returns:
        `ndarray[int64]` of shape `(M, M)`: counts, true class by predicted class.
    """
    # The figure class itself: pyplot would choose a window system and keep the figure in its registry.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = confusion_matrix(expected, predicted, labels=list(labels))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(max(4.0, 0.45 * len(labels) + 2.0), 16.0)
    figure = Figure(figsize=(side, side), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), list(labels), rotation=90)
    axes.set_yticks(range(len(labels)), list(labels))
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"{int(np.trace(counts))} of {int(counts.sum())} right")
    if len(labels) <= _MAX_WRITTEN:
        for row, column in zip(*np.nonzero(counts), strict=True):
            color = "white" if shares[row, column] > 0.6 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=color, fontsize=8)
    figure.colorbar(image, ax=axes, shrink=0.7, label="share of the true class")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    return counts
