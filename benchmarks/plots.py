"""Plots of how costs grow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from .report import image_name

if TYPE_CHECKING:
    from pathlib import Path

    from .growth import Figure

# So that equal figures make equal files.
mpl.rcParams["svg.hashsalt"] = "hypertrace"


def draw(figure: Figure, folder: Path) -> None:
    """Write a figure as SVG into a folder."""
    title, grows, by_label = figure
    canvas = Canvas(figsize=(6, 3.2), layout="constrained")
    axes = canvas.subplots()
    for label, points in by_label.items():
        axes.plot(list(points), list(points.values()), marker="o", label=label)
    axes.set(title=title, xlabel=grows, ylabel="ns", xscale="log", ylim=0)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    canvas.savefig(folder / image_name(title), metadata={"Date": None})
