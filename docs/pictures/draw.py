"""Draws pipeline.png, the picture in the README: `python docs/pictures/draw.py`."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot
from matplotlib.patches import FancyBboxPatch

FROZEN, TRAINED, PLAIN = "#dbe4ee", "#f6c667", "#ffffff"
UNITS = (71, 12, 56, 3, 71, 40)


def box(axes, x, text, colour, *, width=1.7, y=0.5, height=1.0):
    """A rounded box with its left edge at `x`."""
    shape = FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0.05", facecolor=colour, edgecolor="#33475b")
    axes.add_patch(shape)
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=10)


def arrow(axes, x, to, y=1.0):
    """A horizontal arrow."""
    axes.annotate("", xy=(to, y), xytext=(x, y), arrowprops={"arrowstyle": "->", "color": "#33475b", "lw": 1.5})


def draw(path: Path) -> None:
    """Recording, encoder, units, language model with prompts, verbalizer, label."""
    figure, axes = pyplot.subplots(figsize=(11, 2.9), dpi=130)
    time = np.linspace(0, 1, 400)
    wave = np.sin(60 * time) * np.sin(np.pi * time) ** 2 * (0.6 + 0.4 * np.sin(17 * time))
    axes.plot(0.1 + 1.2 * time, 1.0 + 0.45 * wave, color="#33475b", lw=0.8)
    axes.text(0.7, 0.3, "recording", ha="center", fontsize=10)
    arrow(axes, 1.4, 1.75)
    box(axes, 1.85, "speech encoder\n+ k-means", FROZEN)
    arrow(axes, 3.65, 4.0)
    axes.text(5.0, 1.0, " ".join(map(str, UNITS)), ha="center", va="center", family="monospace", fontsize=10)
    axes.text(5.0, 0.3, "units, 50 frames a second", ha="center", fontsize=10)
    arrow(axes, 6.0, 6.4)
    box(axes, 6.5, "unit language model", FROZEN, width=2.1)
    box(axes, 6.75, "prompt vectors", TRAINED, width=1.6, y=1.85, height=0.45)
    axes.annotate("", xy=(7.55, 1.57), xytext=(7.55, 1.79), arrowprops={"arrowstyle": "->", "color": "#33475b"})
    arrow(axes, 8.7, 9.05)
    box(axes, 9.15, "verbalizer", TRAINED, width=1.2)
    arrow(axes, 10.45, 10.8)
    axes.text(11.15, 1.0, "“stop”", ha="center", va="center", fontsize=12)
    for x, colour, text in (
        (1.85, FROZEN, "frozen, shared by all tasks"),
        (4.6, TRAINED, "trained for your task, under 1 MB"),
    ):
        box(axes, x, "", colour, width=0.25, y=-0.3, height=0.18)
        axes.text(x + 0.4, -0.21, text, va="center", fontsize=9)
    axes.set_xlim(0, 11.6)
    axes.set_ylim(-0.5, 2.5)
    axes.axis("off")
    figure.savefig(path, bbox_inches="tight", metadata={"Software": None})
    pyplot.close(figure)


if __name__ == "__main__":
    draw(Path(__file__).with_name("pipeline.png"))
