"""The one-process oracle: what a federated run must come to, written down without any communication."""

from collections.abc import Mapping
from math import isfinite

import numpy as np

from fdrl_mpi.aggregation.aggregator import Aggregator
from fdrl_mpi.aggregation.server import ServerOptimizer
from fdrl_mpi.aggregation.views import Stack
from fdrl_mpi.aggregation.weighting import Weighting
from fdrl_mpi.arrays import FloatVector
from fdrl_mpi.federation.participation import Participation
from fdrl_mpi.federation.round import distance
from fdrl_mpi.federation.schedule import Schedule
from fdrl_mpi.rl.learner import Learner


def reference_round(
    learners: Mapping[int, Learner],
    params: FloatVector,
    round: int,
    participation: Participation,
    schedule: Schedule,
    weighting: Weighting,
    aggregator: Aggregator,
    server: ServerOptimizer,
) -> FloatVector:
    """Make one synchronous round with all agents in this process, one after another.

    Parameters
    ----------
    learners : mapping
        Agent id to learner, the ids being 1..K.
    params : float32 array, shape (d,)
        The last published model.

    Returns
    -------
    float32 array, shape (d,)
        The next one; `params` itself where nobody has a weight.
    """
    rows = np.zeros((len(learners), len(params)), np.float32)
    weights = np.zeros(len(learners), np.float32)
    for agent in sorted(participation(round)):
        learner = learners[agent]
        learner.params[:] = params
        stats = learner.train(schedule(round, agent))
        if isfinite(distance(learner.params, params)):
            rows[agent - 1] = learner.params
            weights[agent - 1] = weighting(stats.env_steps, len(stats.episodes))
        else:
            learner.restart()
    received = Stack(rows, weights)
    return server.step(params, aggregator.aggregate(received)) if received.has_weight else params
