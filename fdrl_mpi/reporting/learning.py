"""How well the policy does, against what it had cost until then."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter

from fdrl_mpi.arrays import DoubleArray
from fdrl_mpi.reporting.runs import Run
from fdrl_mpi.reporting.series import ERRORS, RETURN, LearningCurve, learning_curve
from fdrl_mpi.reporting.style import GREY, label_rounds, label_runs, marked, new_figure, run_colours, say
from fdrl_mpi.reporting.units import BYTES, COUNTS, SECONDS, Unit, bracketed, fitting, number

_BAND_OPACITY = 0.12
_WIDE = 100.0  # quotient of values from which a logarithmic axis has two labels


def draw_learning_curve(runs: Sequence[Run], name: str = RETURN) -> Figure:
    """Draw a variable of the agents against rounds, environment steps, wall time and bytes.

    Errors that fall by orders of magnitude have a logarithmic axis.
    """
    curves = [learning_curve(run.metrics, name) for run in runs]
    labels = [run.label for run in runs]
    figure = new_figure(6.6)
    panels = figure.subplots(2, 2, sharey=True)
    rounds, env_steps, wall_s, moved = panels.flat

    _draw(rounds, curves, [curve.rounds.astype(float) for curve in curves])
    label_rounds(rounds)
    steps = [curve.env_steps for curve in curves]
    unit = _draw(env_steps, curves, [_without_zeros(cost) for cost in steps], COUNTS)
    remark = _remark("no environment steps", labels, steps)
    env_steps.set_xlabel(bracketed("environment steps of all agents", unit.name) + remark)
    unit = _draw(wall_s, curves, [curve.wall_s for curve in curves], SECONDS)
    wall_s.set_xlabel(bracketed("wall time", unit.name))
    sent = [curve.moved_bytes for curve in curves]
    unit = _draw(moved, curves, [_without_zeros(cost) for cost in sent], BYTES)
    remark = _remark("no bytes", labels, sent)
    moved.set_xlabel(bracketed("bytes sent by all ranks", unit.name) + remark)

    for axes in panels[:, 0]:
        axes.set_ylabel(name.replace("_", " "))
    if name in ERRORS and _span(curves) >= _WIDE:
        rounds.set_yscale("log")
        for axes in panels.flat:
            axes.yaxis.set_major_formatter(lambda value, _: number(value))
            axes.yaxis.set_minor_formatter(NullFormatter())
    if not any(len(curve.rounds) for curve in curves):
        for axes in panels.flat:
            say(axes, "not evaluated yet")
    label_runs(figure, labels, _styles())
    return figure


def _draw(
    axes: Axes,
    curves: Sequence[LearningCurve],
    costs: Sequence[DoubleArray],
    units: Sequence[Unit] = COUNTS[:1],
) -> Unit:
    """Draw every curve over its costs; return the unit that was chosen for them."""
    unit = fitting(units, *costs)
    if not any(np.isfinite(cost).any() for cost in costs):
        axes.set_xticks([])
    for curve, cost, colour in zip(curves, costs, run_colours(len(curves)), strict=True):
        x = cost / unit.size
        axes.fill_between(x, curve.low, curve.high, color=colour, alpha=_BAND_OPACITY, linewidth=0.0)
        point: dict[str, Any] = {"color": colour, "marker": "o", "markevery": marked(x)}
        axes.plot(x, curve.worst, linewidth=0.9, linestyle="--", markersize=2, **point)
        axes.plot(x, curve.mean, linewidth=2.0, markersize=4, **point)
    return unit


def _span(curves: Sequence[LearningCurve]) -> float:
    """Divide the largest value by the least; 0 where one is 0, or there are none."""
    values = np.concatenate([[*curve.low, *curve.worst] for curve in curves])
    return float(values.max() / values.min()) if len(values) and values.min() > 0.0 else 0.0


def _without_zeros(cost: DoubleArray) -> DoubleArray:
    """Drop the points of a run that does not have this cost: they would stand upon each other."""
    return cost if cost.any() else cost * float("nan")


def _remark(what: str, labels: Sequence[str], costs: Sequence[DoubleArray]) -> str:
    """Name the runs that do not have a cost, on a line of its own."""
    free = [label for label, cost in zip(labels, costs, strict=True) if len(cost) and not cost.any()]
    return f"\n{what}: {', '.join(free)}" if free else ""


def _styles() -> list[Artist]:
    return [
        Line2D([], [], color=GREY, linewidth=2.0, label="mean over the agents' worlds"),
        Line2D([], [], color=GREY, linewidth=0.9, linestyle="--", label="worst agent"),
        Patch(color=GREY, alpha=_BAND_OPACITY, linewidth=0.0, label="10 to 90 % of the agents"),
    ]
