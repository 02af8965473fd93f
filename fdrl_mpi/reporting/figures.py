"""The figures of a report: file name, heading, how to read it, who draws it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from matplotlib.figure import Figure

from fdrl_mpi.reporting.costs import draw_bytes, draw_phases
from fdrl_mpi.reporting.learning import draw_learning_curve
from fdrl_mpi.reporting.runs import Run
from fdrl_mpi.reporting.series import exact_measures
from fdrl_mpi.reporting.style import png, settings
from fdrl_mpi.reporting.training import draw_agents
from fdrl_mpi.reporting.worlds import draw_worlds


@dataclass(frozen=True)
class Picture:
    """A rendered figure."""

    file: str
    heading: str
    caption: str
    image: bytes


@dataclass(frozen=True)
class _Plan:
    file: str
    heading: str
    caption: str
    draw: Callable[[Sequence[Run]], Figure]


_PLANS = (
    _Plan(
        "learning_curve.png",
        "Learning curve",
        "The published policy, played greedily in every agent's world, against four costs. Steps and bytes "
        "are summed over all ranks from the start of the run. Only evaluated rounds are shown.",
        draw_learning_curve,
    ),
    _Plan(
        "worlds.png",
        "Each agent's world and return",
        "Agents by the return of the last evaluation, best first. The shade of a cell goes from the least to "
        "the greatest of its column. Runs with the same worlds share a table in the order of the first.",
        draw_worlds,
    ),
    _Plan(
        "phases.png",
        "Time per phase",
        "Left: the agents that took part, on average. Middle: the root. It evaluates while the agents train, "
        "so its times lie beside those on the left and do not add to them; up to the line, the root waits. "
        "The checkpoint comes after the round. Right: the part of the time on the left that is not training.",
        draw_phases,
    ),
    _Plan(
        "bytes.png",
        "Bytes per round",
        "Handed to MPI (sent) and taken from MPI (received): by all agents together, and by the root.",
        draw_bytes,
    ),
    _Plan(
        "agents.png",
        "Training of each agent",
        "Thin: each agent. Thick: the mean of those that took part. The training return is that of the "
        "exploring policy, in the episodes that ended in the round.",
        draw_agents,
    ),
)


_EXACT_PLANS = {
    "table_error": _Plan(
        "table_error.png",
        "Error of the table",
        "How far the table that a round begins with is from the true values of each agent's world, computed "
        "and not sampled, against four costs.",
        partial(draw_learning_curve, name="table_error"),
    ),
    "exact_return": _Plan(
        "exact_return.png",
        "Exact return",
        "The discounted return of each agent's table in its world, computed and not sampled, against four "
        "costs.",
        partial(draw_learning_curve, name="exact_return"),
    ),
}
"""What learners compute that know their process; drawn first where a run has it."""


def draw_pictures(runs: Sequence[Run]) -> list[Picture]:
    """Draw and render every figure."""
    measures = {name for run in runs for name in exact_measures(run.metrics)}
    plans = [*[plan for name, plan in _EXACT_PLANS.items() if name in measures], *_PLANS]
    with settings():
        return [Picture(plan.file, plan.heading, plan.caption, png(plan.draw(runs))) for plan in plans]
