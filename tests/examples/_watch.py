"""Run a program as `python PROGRAM` does, and write down what `plt.show()` would have shown.

    python tests/examples/_watch.py PROGRAM REPORT

Warnings are errors. The report is JSON: `pictures`, a dict a figure, and `left_open`, the number of
figures that no `plt.show()` came after.
"""

import json
import runpy
import sys
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

import sknets  # noqa: F401  what other libraries warn of when imported is not the program's fault

COLOUR_BAR = "<colorbar>"  # matplotlib's label of their axes


def labels_missing(figure: Figure) -> list[str]:
    """Name the axes that show numbers or names along a side and do not say what these are."""
    parts = [figure, *figure.subfigs]
    common = {
        "x": any(part.get_supxlabel() for part in parts),
        "y": any(part.get_supylabel() for part in parts),
    }
    missing = []
    for number, axes in enumerate(figure.axes):
        if not (axes.axison and axes.get_visible()):
            continue
        for letter, axis in axes._axis_map.items():
            numbers = [tick for tick in axis.get_ticklabels() if tick.get_visible()]
            shown = axis.get_visible() and any(tick.get_text() for tick in numbers)
            if shown and not axis.get_label_text() and not common.get(letter):
                missing.append(f"axes {number} {axes.get_title()!r}, {letter}")
    return missing


def titles_missing(figure: Figure) -> list[int]:
    """Number the axes that have no title of their own nor of their figure or part of it."""

    def is_titled(axes: Axes) -> bool:
        own = any(axes.get_title(loc=place) for place in ("left", "center", "right"))
        return bool(own or axes.figure.get_suptitle() or figure.get_suptitle())

    axes = [part for part in figure.axes if part.get_label() != COLOUR_BAR]
    return [number for number, part in enumerate(axes) if not is_titled(part)]


def describe(figure: Figure) -> dict:
    """Measure one figure, in pixels."""
    figure.canvas.draw()
    width, height = figure.bbox.size
    box = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    letters = min((text.get_fontsize() for text in texts), default=0)  # in points, 72 an inch
    return {
        "width": width,
        "axes": len(figure.axes),
        "outside": max(-box.x0, -box.y0, box.x1 - width, box.y1 - height),
        "labels_missing": labels_missing(figure),
        "titles_missing": titles_missing(figure),
        "smallest_letters": letters / 72 * figure.dpi,
    }


def main(program: str, report: str) -> None:
    """Run the program."""
    pictures: list[dict] = []

    def show(*args: object, **kwargs: object) -> None:
        pictures.extend(describe(plt.figure(number)) for number in plt.get_fignums())
        plt.close("all")

    plt.show = show
    sys.argv = [program]
    warnings.simplefilter("error")
    runpy.run_path(program, run_name="__main__")
    left_open = len(plt.get_fignums())
    Path(report).write_text(json.dumps({"pictures": pictures, "left_open": left_open}))


if __name__ == "__main__":
    main(*sys.argv[1:])
