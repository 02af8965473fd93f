"""How the agents learn: exact measures, training returns, losses and distances, round by round."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from fdrl_mpi.record.metrics_file import Metrics
from fdrl_mpi.record.variables import VARIABLES
from fdrl_mpi.reporting.runs import Run
from fdrl_mpi.reporting.series import mean_of_present
from fdrl_mpi.reporting.style import label_rounds, marked, new_figure, run_colours, say
from fdrl_mpi.reporting.units import bracketed

QUANTITIES = {
    "table_error": "table error",
    "exact_return": "exact return",
    "train_objective": "training objective",
    "train_return": "training return",
    "policy_loss": "policy loss",
    "value_loss": "value loss",
    "q_loss": "action value loss",
    "q_value": "action value",
    "entropy": "entropy",
    "approx_kl": "KL divergence",
    "temperature": "temperature",
    "epsilon": "epsilon",
    "update_norm": "norm of the update",
    "gradient_norm": "norm of the gradient",
    "clip_fraction": "clipped share",
}
"""What may have a panel, the most telling first."""
MOST = 6
"""Panels of a run."""
_COLUMNS = 3
_UNITS = {variable.name: variable.units for variable in VARIABLES}


def recorded(metrics: Metrics) -> list[str]:
    """List the quantities that get a panel: the first `MOST` that are finite for an agent in some round."""
    return [name for name in QUANTITIES if np.isfinite(metrics.values[name]).any()][:MOST]


def draw_agents(runs: Sequence[Run]) -> Figure:
    """Draw small panels a run: a thin line for each agent, a thick one for the mean of those present."""
    names = [recorded(run.metrics) for run in runs]
    heights = [0.3 + 1.95 * max(1, -(-len(each) // _COLUMNS)) for each in names]
    figure = new_figure(0.3 + sum(heights))
    parts = figure.subfigures(len(runs), 1, height_ratios=heights, squeeze=False)[:, 0]
    panels: dict[str, list[Axes]] = {}
    for part, run, each, colour in zip(parts, runs, names, run_colours(len(runs)), strict=True):
        part.suptitle(run.label, color=colour, x=0.01, ha="left", fontweight="bold")
        for name, axes in zip(each, _grid(part, len(each)), strict=True):
            _draw(axes, run.metrics, name, colour)
            panels.setdefault(name, []).append(axes)
    for alike in panels.values():
        _share_limits(alike)
    return figure


def _grid(part: SubFigure, num_panels: int) -> list[Axes]:
    """Divide a run's part of the figure; what is left of the last row stays white."""
    rows = max(1, -(-num_panels // _COLUMNS))
    cells = part.subplots(rows, _COLUMNS, squeeze=False).ravel().tolist()
    for axes in cells[num_panels:]:
        axes.set_axis_off()
    if num_panels == 0:
        say(cells[0], "nothing recorded yet")
    return cells[:num_panels]


def _draw(axes: Axes, metrics: Metrics, name: str, colour: str) -> None:
    values = metrics.values[name]
    axes.set_title(bracketed(QUANTITIES[name], _UNITS[name]))
    label_rounds(axes)
    first, last = metrics.rounds[[0, -1]]
    beside = 0.5 + 0.03 * (last - first)
    axes.set_xlim(first - beside, last + beside)
    opacity = float(np.clip(4.0 / values.shape[1], 0.15, 0.5))
    thin: dict[str, Any] = {"color": colour, "linewidth": 0.7, "alpha": opacity, "markersize": 2}
    for column in values.T:
        axes.plot(metrics.rounds, column, marker="o", markevery=marked(column), **thin)
    mean = mean_of_present(metrics, name)
    thick: dict[str, Any] = {"color": colour, "linewidth": 2.2, "markersize": 4}
    axes.plot(metrics.rounds, mean, marker="o", markevery=marked(mean), **thick)


def _share_limits(panels: Sequence[Axes]) -> None:
    """Give the panels of one quantity the same scale in every run."""
    limits = [axes.get_ylim() for axes in panels]
    for axes in panels:
        axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
