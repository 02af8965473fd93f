"""How much local work a round allows, and with which step size."""

from collections.abc import Callable

from fdrl_mpi.rl.learner import Budget
from fdrl_mpi.streams import stream

Schedule = Callable[[int, int], Budget]
"""Maps a round and an agent id to the agent's budget."""


def budgets(seed: int, rounds: int, env_steps: int, lr: float, decays: bool) -> Schedule:
    """Give every agent the same steps in every round.

    Parameters
    ----------
    seed, rounds : int
    env_steps : int
        Environment steps of an agent in a round.
    lr : float
        Step size of the first round.
    decays : bool
        Whether the step size falls linearly, from `lr` in round 1 to ``lr / rounds`` in the last.
    """

    def budget(round: int, agent: int) -> Budget:
        share = 1.0 - (round - 1) / rounds if decays else 1.0
        return Budget(env_steps, lr * share, stream(seed, "train", agent, round))

    return budget
