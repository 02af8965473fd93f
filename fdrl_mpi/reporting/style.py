"""How figures look: colours that colour-blind readers tell apart, legends beside the data, one format."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from fdrl_mpi.arrays import BoolVector, DoubleArray

WIDTH_IN = 10.0
_CHARACTERS = 130  # of the legend on one line
DPI = 150
_FEW = 30  # points of a line

# Okabe and Ito, "Color Universal Design", 2008, without the yellow, which is lost on white.
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
DARK, GREY, LIGHT = "#222222", "#777777", "#dddddd"
_RUN_COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, DARK)

_SETTINGS: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.labelcolor": DARK,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.constrained_layout.use": True,
    "figure.titlesize": 11,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "grid.color": LIGHT,
    "grid.linewidth": 0.6,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.solid_capstyle": "round",
    "text.parse_math": False,  # a run may be called a$b$
    "xtick.color": GREY,
    "xtick.labelcolor": DARK,
    "xtick.labelsize": 8,
    "ytick.color": GREY,
    "ytick.labelcolor": DARK,
    "ytick.labelsize": 8,
}


def run_colours(num_runs: int) -> list[str]:
    """Give each run the colour it has in every figure and on the page, as #rrggbb."""
    if num_runs <= len(_RUN_COLOURS):
        return list(_RUN_COLOURS[:num_runs])
    return [to_hex(colour) for colour in mpl.colormaps["cividis"](np.linspace(0.0, 0.9, num_runs))]


def new_figure(height_in: float) -> Figure:
    """Make a figure as wide as the page."""
    return Figure(figsize=(WIDTH_IN, height_in))


def settings() -> Any:
    """Give the context in which figures must be made and saved."""
    return mpl.rc_context(_SETTINGS)


def png(figure: Figure) -> bytes:
    """Render a figure."""
    image = BytesIO()
    figure.savefig(image, format="png", dpi=DPI)
    return image.getvalue()


def label_rounds(axes: Axes) -> None:
    """Make the horizontal axis one of whole rounds."""
    axes.set_xlabel("round")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))


def label_runs(figure: Figure, labels: Sequence[str], styles: Sequence[Artist]) -> None:
    """Say above the panels which colour is which run, and below them what the styles of lines mean."""
    colours = run_colours(len(labels))
    # matplotlib leaves out labels that begin with an underscore.
    runs = [Patch(color=colour, label=f" {label}") for colour, label in zip(colours, labels, strict=True)]
    columns = max(1, min(len(labels), _CHARACTERS // (max(map(len, labels)) + 8)))
    figure.legend(handles=runs, loc="outside upper left", ncols=columns)
    figure.legend(handles=list(styles), loc="outside lower left", ncols=len(styles))


def marked(values: DoubleArray) -> BoolVector:
    """Choose the points of a line that get a marker: all where they are few, else those that stand alone.

    A line through one point is invisible, be it the only one or one between two gaps.
    """
    if len(values) <= _FEW:
        return np.ones(len(values), bool)
    known = np.isfinite(values)
    beside = np.zeros(len(values), bool)
    beside[1:] |= known[:-1]
    beside[:-1] |= known[1:]
    alone: BoolVector = known & ~beside
    return alone


def say(axes: Axes, text: str) -> None:
    """Write a remark into an empty panel."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY)
