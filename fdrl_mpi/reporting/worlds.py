"""Each agent's world, and how well the policy does in it."""

from collections.abc import Sequence
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from fdrl_mpi.arrays import DoubleArray, IntVector
from fdrl_mpi.reporting.runs import Context, Run, same_worlds
from fdrl_mpi.reporting.series import last_evaluation
from fdrl_mpi.reporting.style import DARK, new_figure, run_colours, say
from fdrl_mpi.reporting.units import bracketed, number

_SHADES = LinearSegmentedColormap.from_list(
    "shades", ["#ffffff", "#8fbcdb"]
)  # light: black text stays legible
_MANY = 24  # agents; more get lower rows and smaller text
_MOST = 64  # rows; of more agents the best and the worst are shown
_BAR_WIDTH = 2.0  # in cells
_NOTHING = 0.01  # width of no cells; matplotlib refuses 0
_HEADER_IN = 0.75
_CHARACTERS = 110  # of a title as wide as the page


def draw_worlds(runs: Sequence[Run]) -> Figure:
    """Draw a table for all runs with the same worlds: contexts as shaded cells, a column of bars a run."""
    colours = {run.path: colour for run, colour in zip(runs, run_colours(len(runs)), strict=True)}
    groups = same_worlds(runs)
    heights = [_HEADER_IN + len(shown(group[0])) * _row_height_in(group[0]) for group in groups]
    figure = new_figure(sum(heights))
    parts = figure.subfigures(len(groups), 1, height_ratios=heights, squeeze=False)
    for part, group in zip(parts[:, 0], groups, strict=True):
        contexts, order = group[0].contexts, shown(group[0])
        widths = [max(len(contexts), _NOTHING), *[_BAR_WIDTH] * len(group)]
        characters = int(_CHARACTERS * _BAR_WIDTH / sum(widths))
        cells, *bars = part.subplots(1, 1 + len(group), width_ratios=widths)
        _draw_cells(cells, group[0].metrics.agents[order], contexts, order)
        if len(order) < (num_agents := len(group[0].metrics.agents)):
            cells.set_xlabel(f"the best {_MOST // 2} and the worst {_MOST // 2} of {num_agents} agents")
        limits = _limits([last_evaluation(run.metrics).returns for run in group])
        for axes, run in zip(bars, group, strict=True):
            _draw_bars(axes, run, order, limits, colours[run.path], fill(run.label, characters))
    return figure


def by_return(run: Run) -> IntVector:
    """Order the agents by their last evaluation return, best first; those without one come last, by id."""
    order: IntVector = np.argsort(-last_evaluation(run.metrics).returns, kind="stable")
    return order


def shown(run: Run) -> IntVector:
    """List the agents that get a row, in the order of `by_return`."""
    order = by_return(run)
    return order if len(order) <= _MOST else np.concatenate([order[: _MOST // 2], order[-_MOST // 2 :]])


def _row_height_in(run: Run) -> float:
    return 0.28 if len(run.metrics.agents) <= _MANY else 0.2


def _draw_cells(axes: Axes, agents: IntVector, contexts: Sequence[Context], order: IntVector) -> None:
    num_agents, num_contexts = len(agents), len(contexts)
    size = 8 if num_agents <= _MANY else 7
    _clear(axes, num_agents)
    axes.set_yticks(np.arange(num_agents), [f"agent {agent}" for agent in agents], fontsize=size)
    axes.xaxis.tick_top()
    headings = [bracketed(context.name, context.units).replace(" ", "\n", 1) for context in contexts]
    axes.set_xticks(np.arange(num_contexts) + 0.5, headings)
    if not contexts:
        return
    values = np.stack([context.values[order] for context in contexts], axis=1)
    shades = np.apply_along_axis(normalised, 0, values)
    extent = (0, num_contexts, num_agents - 0.5, -0.5)
    axes.imshow(shades, extent=extent, aspect="auto", cmap=_SHADES, vmin=0.0, vmax=1.0)
    axes.vlines(np.arange(1, num_contexts), -0.5, num_agents - 0.5, color="white", linewidth=6.0)
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            text = number(value)
            axes.text(column + 0.5, row, text, ha="center", va="center", fontsize=size, color=DARK)


def normalised(values: DoubleArray) -> DoubleArray:
    """Map the least value to 0 and the greatest to 1; what does not differ is 0.5, NaN stays."""
    known = values[np.isfinite(values)]
    if len(known) == 0 or known.min() == known.max():
        return values * 0.0 + 0.5
    scaled: DoubleArray = (values - known.min()) / (known.max() - known.min())
    return scaled


def _draw_bars(
    axes: Axes, run: Run, order: IntVector, limits: tuple[float, float], colour: str, label: str
) -> None:
    evaluation = last_evaluation(run.metrics)
    returns, rows = evaluation.returns[order], np.arange(len(order))
    when = f" in round {evaluation.round}" if evaluation.round is not None else ""
    axes.set_title(f"{label}\nreturn{when}", color=colour, fontsize=9)
    axes.set_yticks([])
    _clear(axes, len(rows))
    axes.set_xlim(*limits)
    axes.set_xticks([])
    if evaluation.round is None:
        say(axes, "not evaluated yet")
        return
    axes.barh(rows, np.where(np.isfinite(returns), returns, 0.0), height=0.75, color=colour, alpha=0.45)
    axes.axvline(0.0, color=DARK, linewidth=0.6)
    for row, value in enumerate(returns):
        if not np.isnan(value):
            axes.text(
                0.0,
                row,
                f" {number(value)} ",
                ha="left" if value >= 0.0 else "right",
                va="center",
                fontsize=8,
            )


def _limits(returns: Sequence[DoubleArray]) -> tuple[float, float]:
    """Span all returns and 0, the foot of the bars."""
    known = np.concatenate([[0.0], *[values[np.isfinite(values)] for values in returns]])
    return float(known.min()), float(known.max()) or 1.0


def _clear(axes: Axes, num_rows: int) -> None:
    """Leave nothing but the cells of a table."""
    axes.grid(False)
    axes.tick_params(length=0)
    axes.set_ylim(num_rows - 0.5, -0.5)
    for spine in axes.spines.values():
        spine.set_visible(False)
