"""One synchronous round: train, meet, encode, exchange, aggregate, publish."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite, sqrt

import numpy as np

from fdrl_mpi.aggregation.aggregator import Aggregator
from fdrl_mpi.aggregation.server import ServerOptimizer
from fdrl_mpi.aggregation.weighting import Weighting
from fdrl_mpi.arrays import FloatVector
from fdrl_mpi.comm.collective import Collective
from fdrl_mpi.comm.world import World
from fdrl_mpi.federation.clock import Clock
from fdrl_mpi.rl.learner import Budget, Learner, TrainStats


@dataclass
class Parts:
    """What a rank needs for a round; `learner` is None where nobody trains."""

    world: World
    collective: Collective
    aggregator: Aggregator
    weighting: Weighting
    server: ServerOptimizer
    learner: Learner | None
    clock: Clock = field(default_factory=Clock)


@dataclass(frozen=True)
class Contribution:
    """What one rank brings to a round."""

    weight: float = 0.0
    is_present: bool = False
    is_rejected: bool = False
    update_norm: float = float("nan")
    stats: TrainStats = field(default_factory=TrainStats)


@dataclass(frozen=True)
class Outcome:
    """What a round came to: the same on every rank, except for `contribution`.

    Attributes
    ----------
    params : float32 array, shape (d,)
        The published model; valid until the next round's exchange.
    total_weight : float
    num_rejected, num_stopping : int
        Agents left out because their update was not finite; ranks that were asked to stop.
    """

    params: FloatVector
    contribution: Contribution
    total_weight: float
    num_rejected: int
    num_stopping: int


def federated_round(
    parts: Parts, params: FloatVector, budget: Budget | None, is_stopping: bool, meanwhile: Callable[[], bool]
) -> Outcome:
    """Make one round; every rank calls it.

    Parameters
    ----------
    params : float32 array, shape (d,)
        The last published model.
    budget : Budget or None
        Local work of this rank; None: absent.
    is_stopping : bool
        Whether this rank was asked to stop.
    meanwhile : callable
        Work for the time in which this rank waits for slower ones; says whether there was any.
    """
    clock, collective, learner = parts.clock, parts.collective, parts.learner
    mine, update = Contribution(), params
    if learner is not None and budget is not None:
        with clock.phase("train"):
            learner.params[:] = params
            stats = learner.train(budget)
        mine, update = contribution(learner, params, stats, parts.weighting), learner.params

    with clock.phase("wait"):
        ballot = np.array([mine.weight, mine.is_rejected, is_stopping], np.float64)
        total_weight, num_rejected, num_stopping = parts.world.meet(ballot, meanwhile).tolist()

    if total_weight > 0.0:
        with clock.phase("encode"):
            collective.encode(update, mine.weight, total_weight)
        with clock.phase("exchange"):
            received = collective.exchange()
        if received is not None:
            with clock.phase("aggregate"):
                params = parts.server.step(params, parts.aggregator.aggregate(received))
        with clock.phase("exchange"):
            params = collective.publish(params)
    return Outcome(params, mine, total_weight, int(num_rejected), int(num_stopping))


def contribution(
    learner: Learner, params: FloatVector, stats: TrainStats, weighting: Weighting
) -> Contribution:
    """Weigh what an agent has trained; an update that is not finite is left out, and its cause dropped."""
    update = learner.params - params
    norm = sqrt(float(np.dot(update, update)))
    if not isfinite(norm):
        learner.restart()
        return Contribution(0.0, True, True, norm, stats)
    return Contribution(weighting(stats.env_steps, len(stats.episodes)), True, False, norm, stats)
