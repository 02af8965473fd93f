"""The interface of a learner: what the federation knows of an agent's algorithm."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from fdrl_mpi.arrays import FloatVector, State


@dataclass(frozen=True)
class Budget:
    """What a learner may spend in one round.

    Attributes
    ----------
    env_steps : int
        Environment steps, all environments of the agent together.
    lr : float
        Step size of the optimiser in this round.
    generator : numpy.random.Generator
        Source of every draw of the round.
    """

    env_steps: int
    lr: float
    generator: np.random.Generator


@dataclass
class TrainStats:
    """What one agent did in one round.

    Attributes
    ----------
    env_steps, gradient_steps : int
    rollout_s : float
        Seconds of the training spent acting.
    episodes : list of (return, length)
        Training episodes finished in the round, in order.
    means : dict
        Named as in the record: `policy_loss`, `entropy`, ...
    """

    env_steps: int = 0
    gradient_steps: int = 0
    rollout_s: float = 0.0
    episodes: list[tuple[float, float]] = field(default_factory=list)
    means: dict[str, float] = field(default_factory=dict)


class Learner(Protocol):
    """One agent's algorithm on its own environments.

    Attributes
    ----------
    params : float32 array, shape (d,)
        Writable view of what is federated: load a model by writing into it.
    """

    params: FloatVector

    def train(self, budget: Budget) -> TrainStats:
        """Spend the budget, starting from `params` and leaving the local model there."""

    def restart(self) -> None:
        """Drop what a diverged training has spoiled: optimiser moments, episodes, statistics."""

    def get_state(self) -> State:
        """Return all that `train` depends on besides its budget."""

    def set_state(self, state: State) -> None:
        """Continue exactly where `get_state` was taken."""
