"""An agent that moves as it is told."""

import numpy as np

from fdrl_mpi.federation.participant import Participant
from fdrl_mpi.federation.wire import Wire
from fdrl_mpi.rl.learner import Budget, TrainStats
from fdrl_mpi.rl.objective import LocalObjective


class Scripted:
    """Moves by what it is told, and reports gradients and returns it is told."""

    def __init__(self, size: int) -> None:
        self.params = np.zeros(size, np.float32)
        self.move, self.returns = 0.0, [1.0]

    def train(self, budget: Budget) -> TrainStats:
        self.params += np.float32(self.move)
        return TrainStats(episodes=[(total, 1.0) for total in self.returns])

    def restart(self) -> None: ...

    def get_state(self):
        return {}


class Gradient(LocalObjective):
    """Reports one gradient whatever happened, and remembers corrections."""

    gradient, correction = 0.0, None

    def begin(self, anchor, correction=None):
        self.correction = correction

    def mean_gradient(self, num_params):
        return np.full(num_params, self.gradient, np.float32)


BUDGET = Budget(1, 0.1, np.random.default_rng(0))


def scripted(wire: Wire) -> tuple[Participant, Scripted, Gradient]:
    learner, objective = Scripted(wire.num_params), Gradient()
    return Participant(learner, objective, wire, np.zeros(wire.length, np.float32)), learner, objective
