"""How well the policy does, against what it had cost until then."""

from collections.abc import Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from fdrl_mpi.arrays import DoubleArray
from fdrl_mpi.reporting.runs import Run
from fdrl_mpi.reporting.series import LearningCurve, learning_curve
from fdrl_mpi.reporting.style import GREY, label_rounds, label_runs, marked, new_figure, run_colours, say
from fdrl_mpi.reporting.units import BYTES, COUNTS, SECONDS, Unit, bracketed, fitting

_BAND_OPACITY = 0.12


def draw_learning_curve(runs: Sequence[Run]) -> Figure:
    """Draw the evaluation return against rounds, environment steps, wall time and bytes."""
    curves = [learning_curve(run.metrics) for run in runs]
    figure = new_figure(6.6)
    panels = figure.subplots(2, 2, sharey=True)
    rounds, env_steps, wall_s, moved = panels.flat

    _draw(rounds, curves, [curve.rounds.astype(float) for curve in curves])
    label_rounds(rounds)
    unit = _draw(env_steps, curves, [curve.env_steps for curve in curves], COUNTS)
    env_steps.set_xlabel(bracketed("environment steps of all agents", unit.name))
    unit = _draw(wall_s, curves, [curve.wall_s for curve in curves], SECONDS)
    wall_s.set_xlabel(bracketed("wall time", unit.name))
    unit = _draw(moved, curves, [_without_zeros(curve.moved_bytes) for curve in curves], BYTES)
    silent = [
        run.label
        for run, curve in zip(runs, curves, strict=True)
        if len(curve.rounds) and not curve.moved_bytes.any()
    ]
    remark = f"\nno bytes: {', '.join(silent)}" if silent else ""
    moved.set_xlabel(bracketed("bytes sent by all ranks", unit.name) + remark)

    for axes in panels[:, 0]:
        axes.set_ylabel("evaluation return")
    if not any(len(curve.rounds) for curve in curves):
        for axes in panels.flat:
            say(axes, "not evaluated yet")
    label_runs(figure, [run.label for run in runs], _styles())
    return figure


def _draw(
    axes: Axes,
    curves: Sequence[LearningCurve],
    costs: Sequence[DoubleArray],
    units: Sequence[Unit] = COUNTS[:1],
) -> Unit:
    """Draw every curve over its costs; return the unit that was chosen for them."""
    unit = fitting(units, *costs)
    for curve, cost, colour in zip(curves, costs, run_colours(len(curves)), strict=True):
        x = cost / unit.size
        axes.fill_between(x, curve.low, curve.high, color=colour, alpha=_BAND_OPACITY, linewidth=0.0)
        point: dict[str, Any] = {"color": colour, "marker": "o", "markevery": marked(x)}
        axes.plot(x, curve.worst, linewidth=0.9, linestyle="--", markersize=2, **point)
        axes.plot(x, curve.mean, linewidth=2.0, markersize=4, **point)
    return unit


def _without_zeros(moved_bytes: DoubleArray) -> DoubleArray:
    """Drop the points of a run that moves nothing: they would stand upon each other."""
    return moved_bytes if moved_bytes.any() else moved_bytes * float("nan")


def _styles() -> list[Artist]:
    return [
        Line2D([], [], color=GREY, linewidth=2.0, label="mean over the agents' worlds"),
        Line2D([], [], color=GREY, linewidth=0.9, linestyle="--", label="worst agent"),
        Patch(color=GREY, alpha=_BAND_OPACITY, linewidth=0.0, label="10 to 90 % of the agents"),
    ]
