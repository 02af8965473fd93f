"""The one-process oracle: what a federated run must come to, written down without any communication."""

from collections.abc import Mapping
from math import isfinite

import numpy as np

from fdrl_mpi.aggregation.aggregator import Aggregator
from fdrl_mpi.aggregation.server import ServerOptimizer
from fdrl_mpi.aggregation.views import Stack
from fdrl_mpi.aggregation.weighting import Weighting
from fdrl_mpi.arrays import FloatVector
from fdrl_mpi.federation.participant import Participant
from fdrl_mpi.federation.participation import Participation
from fdrl_mpi.federation.schedule import Schedule


def reference_round(
    participants: Mapping[int, Participant],
    params: FloatVector,
    round: int,
    participation: Participation,
    schedule: Schedule,
    weighting: Weighting,
    aggregator: Aggregator,
    server: ServerOptimizer,
    is_refused: bool = False,
) -> FloatVector:
    """Make one synchronous round with all agents in this process, one after another.

    Parameters
    ----------
    participants : mapping
        By agent id, the ids being 1..K.
    params : float32 array, shape (length of the wire,)
        What was published last.
    is_refused : bool
        Whether the model made of it is refused.

    Returns
    -------
    float32 array, shape (length of the wire,)
        What is published next; `params` itself where nobody has a weight, or it is refused, or not finite.
    """
    rows = np.zeros((len(participants), len(params)), np.float32)
    weights = np.zeros(len(participants), np.float32)
    for agent in sorted(participation(round)):
        participant = participants[agent]
        stats = participant.train(params, schedule(round, agent))
        if isfinite(participant.update_norm(params, stats)):
            rows[agent - 1] = participant.row
            weights[agent - 1] = weighting(stats.env_steps, len(stats.episodes), participant.recent_return)
        else:
            participant.withdraw(params)
    received = Stack(rows, weights)
    if not received.has_weight:
        return params
    before = server.get_state()
    published = server.step(params, aggregator.aggregate(received), slice(None))
    if is_refused or not np.isfinite(published).all():
        server.set_state(before)
        return params
    for agent in np.flatnonzero(weights).tolist():
        participants[agent + 1].accept()
    return published
