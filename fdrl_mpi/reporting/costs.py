"""Where the time of a round goes, and how many bytes it moves."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from fdrl_mpi.arrays import DoubleArray, IntVector
from fdrl_mpi.record.metrics_file import Metrics
from fdrl_mpi.reporting.runs import Run
from fdrl_mpi.reporting.series import (
    agent_phases,
    over_agents,
    root_phases,
    share_outside_training,
    summarise,
)
from fdrl_mpi.reporting.style import (
    BLUE,
    DARK,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    label_rounds,
    label_runs,
    marked,
    new_figure,
    run_colours,
    say,
)
from fdrl_mpi.reporting.units import BYTES, SECONDS, Unit, bracketed, fitting

_PHASE_COLOURS = {
    "train": SKY,
    "wait": ORANGE,
    "encode": PURPLE,
    "exchange": VERMILION,
    "evaluate": GREEN,
    "aggregate": BLUE,
    "record": DARK,
    "checkpoint": GREY,
}


def draw_phases(runs: Sequence[Run]) -> Figure:
    """Draw, a row for each run, the phases of agents and root and the share of time outside training."""
    pairs = [(agent_phases(run.metrics), root_phases(run.metrics)) for run in runs]
    unit = fitting(SECONDS, *[_height(phases) for pair in pairs for phases in pair])
    figure = new_figure(0.5 + 3.0 * len(runs))
    parts = figure.subfigures(len(runs), 1, squeeze=False)[:, 0]
    for part, run, colour, (agents, root) in zip(parts, runs, run_colours(len(runs)), pairs, strict=True):
        _draw_run(part, run, colour, agents, root, unit)
    _share_limits([part.axes[panel] for part in parts for panel in (0, 1)])
    _share_limits([part.axes[2] for part in parts])
    return figure


def _draw_run(
    part: SubFigure,
    run: Run,
    colour: str,
    agents: Mapping[str, DoubleArray],
    root: Mapping[str, DoubleArray],
    unit: Unit,
) -> None:
    left, middle, right = part.subplots(1, 3)
    part.suptitle(run.label, color=colour, x=0.01, ha="left", fontweight="bold")
    left.set_title("agents, mean")
    left.set_ylabel(bracketed("time per round", unit.name))
    middle.set_title("root, while the agents train and after")
    for axes, phases in ((left, agents), (middle, root)):
        label_rounds(axes)
        if len(run.metrics.rounds) == 0:
            say(axes, "no round yet")
            continue
        _stack(axes, run.metrics.rounds, phases, unit)
        if axes is middle:
            _outline(axes, run.metrics, unit)
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, columnspacing=1.0, handlelength=1.2
        )
    right.set_title("agents' time outside training")
    _draw_share(right, run.metrics, colour)


def _stack(axes: Axes, rounds: IntVector, phases: Mapping[str, DoubleArray], unit: Unit) -> None:
    """Pile up the phases, a column a round; a phase that is not known has no height."""
    edges = _edges(rounds)
    top = np.zeros(len(rounds))
    for name, seconds in phases.items():
        bottom, top = top, top + np.nan_to_num(seconds) / unit.size
        axes.stairs(
            top, edges, baseline=bottom, fill=True, color=_PHASE_COLOURS[name], label=name, linewidth=0.0
        )


def _outline(axes: Axes, metrics: Metrics, unit: Unit) -> None:
    axes.stairs(
        metrics.values["round_s"] / unit.size,
        _edges(metrics.rounds),
        baseline=None,
        color=DARK,
        linewidth=0.8,
        label="whole round",
    )


def _draw_share(axes: Axes, metrics: Metrics, colour: str) -> None:
    share = share_outside_training(metrics)
    axes.plot(metrics.rounds, share, color=colour, marker="o", markevery=marked(share), markersize=3.5)
    mean = summarise(metrics).share_outside_training
    if not np.isnan(mean):
        axes.axhline(mean, color=GREY, linestyle="--", linewidth=0.9, label=f"whole run: {mean:.1%}")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    label_rounds(axes)


def draw_bytes(runs: Sequence[Run]) -> Figure:
    """Draw what the agents together, and the root, sent and received in each round."""
    sides = [
        {
            "all agents": (
                over_agents(run.metrics, "sent_bytes"),
                over_agents(run.metrics, "received_bytes"),
            ),
            "root": (run.metrics.values["root_sent_bytes"], run.metrics.values["root_received_bytes"]),
        }
        for run in runs
    ]
    unit = fitting(BYTES, *[array for side in sides for pair in side.values() for array in pair])
    figure = new_figure(3.4)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, name in zip(panels, ("all agents", "root"), strict=True):
        axes.set_title(name)
        for run, side, colour in zip(runs, sides, run_colours(len(runs)), strict=True):
            sent, received = side[name]
            wide: dict[str, Any] = {"linewidth": 3.5, "alpha": 0.4, "markersize": 6}
            dashed: dict[str, Any] = {"linewidth": 1.2, "linestyle": "--", "markersize": 3}
            for moved, style in ((sent, wide), (received, dashed)):
                values = moved / unit.size
                axes.plot(
                    run.metrics.rounds, values, color=colour, marker="o", markevery=marked(values), **style
                )
        label_rounds(axes)
        axes.set_ylim(0.0, max(1.0, axes.get_ylim()[1]))  # 1 B, where nothing moves
    panels[0].set_ylabel(bracketed("bytes per round", unit.name))
    sent_style = Line2D([], [], color=GREY, linewidth=3.5, alpha=0.4, label="sent")
    received_style = Line2D([], [], color=GREY, linewidth=1.2, linestyle="--", label="received")
    label_runs(figure, [run.label for run in runs], [sent_style, received_style])
    return figure


def _edges(rounds: IntVector) -> DoubleArray:
    """Put every round in the middle of its column."""
    edges: DoubleArray = np.append(rounds, rounds[-1] + 1) - 0.5
    return edges


def _height(phases: Mapping[str, DoubleArray]) -> DoubleArray:
    height: DoubleArray = np.nansum(np.stack([*phases.values()]), axis=0)
    return height


def _share_limits(panels: Sequence[Axes]) -> None:
    """Give all panels the same scale, from 0."""
    top = max(axes.get_ylim()[1] for axes in panels)
    for axes in panels:
        axes.set_ylim(0.0, top)
