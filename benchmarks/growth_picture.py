"""The picture of cost against size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.report import Curve

_COLUMNS = 3


def draw_growth(curves: Sequence[Curve], path: Path) -> None:
    """Draw each curve in a panel of its own, sizes on a logarithmic axis.

    Times are on one too where they span more than a power of ten; else they begin at zero, so that
    flat looks flat.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    n_rows = math.ceil(len(curves) / _COLUMNS)
    figure = Figure(figsize=(4.2 * _COLUMNS, 3.6 * n_rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(n_rows, _COLUMNS, squeeze=False).flat
    for panel in panels[len(curves) :]:
        panel.remove()
    for panel, curve in zip(panels, curves, strict=False):
        for name, times in curve.microseconds.items():
            panel.semilogx(curve.sizes, times, "o-", label=name)
        panel.set(title=curve.title, xlabel=curve.axis, ylabel="µs a row and pass")
        every = [time for times in curve.microseconds.values() for time in times]
        if max(every) > 10 * min(every):
            panel.set_yscale("log")
        else:
            panel.set_ylim(0.0, 1.1 * max(every))
        panel.legend(fontsize="small")
        panel.grid(visible=True, which="both", alpha=0.25)
    figure.savefig(path, dpi=110)
