"""What follows from the record: curves, sums and shares, with numpy alone.

NaN means "not known" everywhere: sums take it as 0, means leave it out, and the mean of nothing is NaN.
"""

from dataclasses import dataclass

import numpy as np

from fdrl_mpi.arrays import BoolVector, DoubleArray, IntVector
from fdrl_mpi.record.metrics_file import Metrics
from fdrl_mpi.record.variables import EXACT

LOW_PERCENTILE, HIGH_PERCENTILE = 10.0, 90.0
RETURN = "evaluation_return"
ERRORS = ("table_error",)
"""Variables of which less is better."""
RECENT = 20
"""Rounds that tell how fast a run is now."""


@dataclass(frozen=True)
class LearningCurve:
    """The rounds of a run in which a variable is known: what they had cost, and how well the agents did.

    Every array has shape (known rounds,).

    Attributes
    ----------
    rounds : int64 array
    env_steps, wall_s, moved_bytes : float64 arrays
        Summed from the start of the run to the end of the round, over all ranks.
    mean, worst, low, high : float64 arrays
        Over the agents that have a value; `low` and `high` are the 10th and 90th percentile.
    """

    rounds: IntVector
    env_steps: DoubleArray
    wall_s: DoubleArray
    moved_bytes: DoubleArray
    mean: DoubleArray
    worst: DoubleArray
    low: DoubleArray
    high: DoubleArray


@dataclass(frozen=True)
class Evaluation:
    """The last evaluation of a run; `returns` has shape (K,), and `round` is None if there was none."""

    round: int | None
    returns: DoubleArray


@dataclass(frozen=True)
class Summary:
    """The numbers of one run; NaN where nothing is known."""

    last_round: int | None
    num_agents: int
    env_steps: float
    wall_s: float
    env_steps_per_s: float
    bytes_per_round: float
    crossing_bytes_per_round: float
    share_outside_training: float
    evaluated_round: int | None
    mean_return: float
    worst_return: float
    worst_agent: int | None
    exact: dict[str, float]


def known(metrics: Metrics, name: str) -> BoolVector:
    """Tell the rounds in which at least one agent has a value of a variable; shape (R,)."""
    rows: BoolVector = np.any(~np.isnan(metrics.values[name]), axis=1)
    return rows


def exact_measures(metrics: Metrics) -> list[str]:
    """List what the learners of a run computed instead of sampling it."""
    return [name for name in EXACT if known(metrics, name).any()]


def learning_curve(metrics: Metrics, name: str = RETURN) -> LearningCurve:
    """Take the rounds with a value out of the record; NaN rows between them still count into the costs."""
    rows = known(metrics, name)
    values = metrics.values[name][rows]
    low, high = np.empty((2, 0))
    if len(values):
        low, high = np.nanpercentile(values, [LOW_PERCENTILE, HIGH_PERCENTILE], axis=1)
    worst = np.nanmax(values, axis=1) if name in ERRORS else np.nanmin(values, axis=1)
    return LearningCurve(
        rounds=metrics.rounds[rows],
        env_steps=np.nancumsum(over_agents(metrics, "env_steps"))[rows],
        wall_s=metrics.values["end_wall_s"][rows],
        moved_bytes=np.nancumsum(moved_bytes(metrics))[rows],
        mean=np.nanmean(values, axis=1),
        worst=worst,
        low=low,
        high=high,
    )


def last_evaluation(metrics: Metrics) -> Evaluation:
    """Give the newest returns of a run."""
    rows = np.flatnonzero(known(metrics, RETURN))
    if len(rows) == 0:
        return Evaluation(None, np.full(len(metrics.agents), np.nan))
    return Evaluation(int(metrics.rounds[rows[-1]]), metrics.values[RETURN][rows[-1]])


def over_agents(metrics: Metrics, name: str) -> DoubleArray:
    """Sum a variable over the agents, round by round; NaN where no agent has a value."""
    values = metrics.values[name]
    total: DoubleArray = np.where(np.isnan(values).all(axis=1), np.nan, np.nansum(values, axis=1))
    return total


def mean_of_present(metrics: Metrics, name: str) -> DoubleArray:
    """Average a variable over the agents that took part, round by round; NaN where none did."""
    values = metrics.values[name]
    counted = (metrics.values["present"] == 1.0) & ~np.isnan(values)
    total, number = np.where(counted, values, 0.0).sum(axis=1), counted.sum(axis=1)
    mean: DoubleArray = np.where(number > 0, total / np.maximum(number, 1), np.nan)
    return mean


def moved_bytes(metrics: Metrics, which: str = "sent_bytes") -> DoubleArray:
    """Add up what all ranks, the root included, handed to MPI; NaN where nothing is known."""
    parts = np.stack([over_agents(metrics, which), metrics.values[f"root_{which}"]])
    total: DoubleArray = np.where(np.isnan(parts).all(axis=0), np.nan, np.nansum(parts, axis=0))
    return total


def agent_phases(metrics: Metrics) -> dict[str, DoubleArray]:
    """Give the seconds of each phase of a present agent, on average, round by round."""
    return {name: mean_of_present(metrics, f"{name}_s") for name in ("train", "wait", "encode", "exchange")}


def root_phases(metrics: Metrics) -> dict[str, DoubleArray]:
    """Give the seconds of each phase of the root, round by round."""
    values = metrics.values
    return {
        "evaluate": values["evaluate_s"],
        "aggregate": values["aggregate_s"],
        "exchange": values["root_exchange_s"],
        "record": values["record_s"],
        "checkpoint": values["checkpoint_s"],
    }


def seconds_per_round(metrics: Metrics) -> float:
    """Average the wall time of the last `RECENT` rounds; NaN where nothing is known."""
    return _mean(metrics.values["round_s"][-RECENT:])


def recent_rate(metrics: Metrics, amounts: DoubleArray) -> float:
    """Divide what the last `RECENT` rounds did by their wall time; `amounts` has shape (R,)."""
    round_s = metrics.values["round_s"][-RECENT:]
    timed = ~np.isnan(round_s)
    total_s = float(round_s[timed].sum())
    return float(np.nansum(amounts[-RECENT:][timed])) / total_s if total_s > 0.0 else np.nan


def share_outside_training(metrics: Metrics) -> DoubleArray:
    """Give the part of its round in which a present agent, on average, did not train; 0 to 1.

    The agents' round is the sum of their phases. It begins and ends a little before or after that of the
    root, so that a single round of theirs may be longer than `round_s`.
    """
    phases = agent_phases(metrics)
    total_s = np.nansum(np.stack([*phases.values()]), axis=0)
    return 1.0 - phases["train"] / np.where(total_s > 0.0, total_s, np.nan)


def summarise(metrics: Metrics) -> Summary:
    """Boil a run down to one line of a table."""
    evaluation = last_evaluation(metrics)
    has_returns = evaluation.round is not None
    worst = int(np.nanargmin(evaluation.returns)) if has_returns else None
    env_steps = float(np.nansum(over_agents(metrics, "env_steps")))
    wall_s = metrics.values["end_wall_s"]
    total_s = float(np.nanmax(wall_s)) if not np.isnan(wall_s).all() else np.nan
    phases = agent_phases(metrics)
    train_s, agents_s = (float(np.nansum(part)) for part in (phases["train"], [*phases.values()]))
    return Summary(
        last_round=int(metrics.rounds[-1]) if len(metrics.rounds) else None,
        num_agents=len(metrics.agents),
        env_steps=env_steps,
        wall_s=total_s,
        env_steps_per_s=env_steps / total_s if total_s > 0.0 else np.nan,
        bytes_per_round=_mean(moved_bytes(metrics)),
        crossing_bytes_per_round=_mean(moved_bytes(metrics, "crossing_bytes")),
        share_outside_training=1.0 - train_s / agents_s if agents_s > 0.0 else np.nan,
        evaluated_round=evaluation.round,
        mean_return=_mean(evaluation.returns),
        worst_return=float(evaluation.returns[worst]) if worst is not None else np.nan,
        worst_agent=int(metrics.agents[worst]) if worst is not None else None,
        exact={name: float(learning_curve(metrics, name).mean[-1]) for name in exact_measures(metrics)},
    )


def _mean(values: DoubleArray) -> float:
    numbers = values[~np.isnan(values)]
    return float(numbers.mean()) if len(numbers) else np.nan
