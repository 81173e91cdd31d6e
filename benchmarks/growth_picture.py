"""The picture of cost against size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.report import Curve


def draw_growth(curves: Sequence[Curve], path: Path) -> None:
    """Draw each curve in a panel of its own, both axes logarithmic."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(curves), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for panel, curve in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves, strict=True):
        for name, times in curve.microseconds.items():
            panel.loglog(curve.sizes, times, "o-", label=name)
        panel.set(title=curve.title, xlabel=curve.axis, ylabel="µs a row and pass")
        panel.legend(fontsize="small")
        panel.grid(visible=True, which="both", alpha=0.25)
    figure.savefig(path, dpi=110)
