"""How the agents learn: their own training returns, losses and distances, round by round."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fdrl_mpi.record.metrics_file import Metrics
from fdrl_mpi.record.variables import VARIABLES
from fdrl_mpi.reporting.runs import Run
from fdrl_mpi.reporting.series import mean_of_present
from fdrl_mpi.reporting.style import label_rounds, marker, new_figure, run_colours, say
from fdrl_mpi.reporting.units import bracketed

QUANTITIES = {
    "train_return": "training return",
    "policy_loss": "policy loss",
    "value_loss": "value loss",
    "entropy": "entropy",
    "approx_kl": "KL divergence",
    "update_norm": "norm of the update",
}
_UNITS = {variable.name: variable.units for variable in VARIABLES}


def draw_agents(runs: Sequence[Run]) -> Figure:
    """Draw six small panels a run: a thin line for each agent, a thick one for the mean of those present."""
    figure = new_figure(0.3 + 4.2 * len(runs))
    parts = figure.subfigures(len(runs), 1, squeeze=False)[:, 0]
    for part, run, colour in zip(parts, runs, run_colours(len(runs)), strict=True):
        part.suptitle(run.label, color=colour, x=0.01, ha="left", fontweight="bold")
        for axes, name in zip(part.subplots(2, 3).flat, QUANTITIES, strict=True):
            _draw(axes, run.metrics, name, colour)
    for panels in zip(*[part.axes for part in parts], strict=True):
        _share_limits(panels)
    return figure


def _draw(axes: Axes, metrics: Metrics, name: str, colour: str) -> None:
    values = metrics.values[name]
    axes.set_title(bracketed(QUANTITIES[name], _UNITS[name]))
    label_rounds(axes)
    if np.isnan(values).all():
        say(axes, "not recorded")
        return
    opacity = float(np.clip(4.0 / values.shape[1], 0.15, 0.5))
    point = marker(len(values))
    axes.plot(metrics.rounds, values, color=colour, linewidth=0.7, alpha=opacity, marker=point, markersize=2)
    mean = mean_of_present(metrics, name)
    axes.plot(metrics.rounds, mean, color=colour, linewidth=2.2, marker=point, markersize=4)


def _share_limits(panels: Sequence[Axes]) -> None:
    """Give the panels of one quantity the same scale in every run."""
    drawn = [axes.get_ylim() for axes in panels if axes.has_data()]
    for axes in panels if drawn else ():
        axes.set_ylim(min(low for low, _ in drawn), max(high for _, high in drawn))
