"""FedPG: the root follows the agents' mean gradient, corrected by small batches of its own episodes.

References
----------
Fan, Ma, Dai, Jing, Tan and Low, "Fault-Tolerant Federated Reinforcement Learning with Theoretical Guarantee",
NeurIPS 2021, algorithm 1 (FedPG-BR without its filter: nobody lies here), with the importance of single
steps that its program uses in the place of the trajectory's: see `SVRPG.importance` for the bias.
"""

from collections.abc import Mapping

import numpy as np

from fdrl_mpi.arrays import FloatVector, State
from fdrl_mpi.rl.learner import Budget, TrainStats
from fdrl_mpi.rl.svrpg import SVRPG
from fdrl_mpi.streams import stream


class FedPG:
    """A server step that is an inner loop of variance-reduced policy gradients; see `ServerOptimizer`.

    Parameters
    ----------
    learner : SVRPG
        The root's own, in worlds of its own; none of its experience leaves the root either.
    lr : float
        Step size of its optimiser.
    seed : int
        Of the run.
    """

    is_mean = False

    def __init__(self, learner: SVRPG, lr: float, seed: int) -> None:
        self._learner, self._lr, self._seed = learner, lr, seed
        self._steps = 0
        self._stats = TrainStats()

    def step(self, params: FloatVector, aggregate: FloatVector, columns: slice) -> FloatVector:
        """Return where the inner loop ends that begins at `params` with the mean gradient `aggregate`."""
        self._steps += 1
        self._stats = TrainStats()
        budget = Budget(0, self._lr, stream(self._seed, "server", round=self._steps))
        self._learner.move_to(params)
        self._learner.descend(aggregate, budget, self._stats)
        return self._learner.params.copy()

    def measure(self) -> Mapping[str, float]:
        """Count the root's own episodes and steps in the last round."""
        return {
            "server_episodes": float(len(self._stats.episodes)),
            "server_env_steps": float(self._stats.env_steps),
        }

    def get_state(self) -> State:
        return {"learner": self._learner.get_state(), "steps": np.array(self._steps)}

    def set_state(self, state: State) -> None:
        if state:
            self._learner.set_state(state["learner"])
            self._steps = int(state["steps"])
