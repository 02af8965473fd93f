"""The curves that a tracker shows: one number a round, over all agents, of the root, or of one agent."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fdrl_mpi.arrays import DoubleArray, IntVector
from fdrl_mpi.record.metrics_file import Metrics
from fdrl_mpi.record.variables import AGENT_VARIABLES, EXACT, VARIABLES
from fdrl_mpi.reporting.series import RETURN, known, learning_curve, mean_of_present, over_agents

PERFORMANCE = (*EXACT, RETURN, "train_return")
"""Of these each agent has a curve of its own, under the name of that of the means."""
MOST_AGENTS = 64
"""With more agents there are no curves of their own."""
_COUNTED = (
    "present",
    "rejected",
    "num_episodes",
    "env_steps",
    "gradient_steps",
    "sent_bytes",
    "received_bytes",
    "crossing_bytes",
    "sent_messages",
    "received_messages",
)
"""Summed over the agents; of the others the mean over those present is taken."""
_SPREAD = {
    "worst": "of the worst agent",
    "low": "tenth percentile of the agents",
    "high": "ninetieth percentile of the agents",
}


@dataclass(frozen=True)
class Curve:
    """The rounds in which a quantity is known.

    Attributes
    ----------
    name : str
        Group and quantity, such as ``agents/policy_loss``.
    description : str
    agent : int or None
        Whose it is; None for all agents or the root.
    rounds : int64 array, shape (n,)
    unix_s, values : float64 arrays, shape (n,)
        `unix_s` is the time of day at the end of the round, NaN where it was not recorded.
    """

    name: str
    description: str
    agent: int | None
    rounds: IntVector
    unix_s: DoubleArray
    values: DoubleArray


def curves(metrics: Metrics) -> list[Curve]:
    """List the curves of a run that have a point, those of each agent last."""
    every = [*_shared(metrics), *(_own(metrics) if len(metrics.agents) <= MOST_AGENTS else [])]
    return [curve for curve in every if len(curve.rounds)]


def _shared(metrics: Metrics) -> Iterator[Curve]:
    for name in (*EXACT, RETURN):
        yield from _performance(metrics, name)
    for variable in VARIABLES:
        name, said = variable.name, f"{variable.long_name} ({variable.units})"
        if name not in AGENT_VARIABLES:
            yield _curve(metrics, f"root/{name}", said, metrics.values[name])
        elif name in _COUNTED:
            yield _curve(metrics, f"agents/{name}", f"{said}, all agents", over_agents(metrics, name))
        elif name not in (*EXACT, RETURN):
            group = "performance" if name in PERFORMANCE else "agents"
            yield _curve(
                metrics, f"{group}/{name}", f"{said}, mean of those present", mean_of_present(metrics, name)
            )


def _performance(metrics: Metrics, name: str) -> Iterator[Curve]:
    """Give the mean over the agents, and how far they are apart."""
    found, rows = learning_curve(metrics, name), known(metrics, name)
    for kind, said in {"mean": "mean of the agents", **_SPREAD}.items():
        values = np.full(len(metrics.rounds), np.nan)
        values[rows] = getattr(found, kind)
        suffix = "" if kind == "mean" else f"_{kind}"
        yield _curve(metrics, f"performance/{name}{suffix}", said, values)


def _own(metrics: Metrics) -> Iterator[Curve]:
    for column, agent in enumerate(metrics.agents.tolist()):
        for name in PERFORMANCE:
            values = metrics.values[name][:, column]
            yield _curve(metrics, f"performance/{name}", f"of agent {agent}", values, agent)


def _curve(
    metrics: Metrics, name: str, description: str, values: DoubleArray, agent: int | None = None
) -> Curve:
    rows = np.isfinite(values)
    unix_s = metrics.values["end_unix_s"][rows]
    return Curve(name, description, agent, metrics.rounds[rows], unix_s, values[rows])


def agent_name(metrics: Metrics, agent: int) -> str:
    """Name an agent so that names are sorted as the ids are."""
    return f"agent_{agent:0{len(str(metrics.agents.max()))}d}"
