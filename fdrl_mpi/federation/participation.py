"""Which agents take part in a round."""

from collections.abc import Callable

import numpy as np

from fdrl_mpi.streams import stream

Participation = Callable[[int], frozenset[int]]
"""Maps a round to its cohort of agent ids, the same on every rank."""


def cohort_size(num_agents: int, fraction: float) -> int:
    """Count the agents of each round: this fraction of all, at least one."""
    return max(1, round(fraction * num_agents))


def uniform_cohorts(seed: int, num_agents: int, fraction: float) -> Participation:
    """Draw `cohort_size` agents without replacement for each round.

    Parameters
    ----------
    seed : int
    num_agents : int
        K.
    fraction : float in (0, 1]

    References
    ----------
    McMahan et al., AISTATS 2017, algorithm 1: ``m = max(C K, 1)`` and a random set of m clients.
    """
    size = cohort_size(num_agents, fraction)

    def cohort(round: int) -> frozenset[int]:
        if size == num_agents:
            return frozenset(range(1, num_agents + 1))
        chosen = stream(seed, "participation", round=round).choice(num_agents, size, replace=False)
        return frozenset((np.sort(chosen) + 1).tolist())

    return cohort
