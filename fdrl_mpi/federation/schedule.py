"""How much local work a round allows, and with which step size."""

from collections.abc import Callable

from fdrl_mpi.rl.learner import Budget
from fdrl_mpi.streams import stream

Schedule = Callable[[int, int], Budget]
"""Maps a round and an agent id to the agent's budget."""


def budgets(seed: int, work: int, lr: float, decay_rounds: int = 0, decay: float = 1.0) -> Schedule:
    """Give every agent the same steps in every round.

    Parameters
    ----------
    seed : int
    work : int
        What `Budget` says.
    lr : float
        Step size of the first round.
    decay_rounds : int
        Rounds in which the step size falls linearly, from `lr` in the first to 0 after the last; 0: never.
        It does not depend on how many rounds there are, so that a run can be prolonged.
    decay : float
        Factor of the step size from one round to the next.
    """

    def budget(round: int, agent: int) -> Budget:
        share = max(1.0 - (round - 1) / decay_rounds, 0.0) if decay_rounds else 1.0
        return Budget(work, lr * share * decay ** (round - 1), stream(seed, "train", agent, round))

    return budget
