"""The interface of a learner: what the federation knows of an agent's algorithm."""

from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from fdrl_mpi.arrays import FloatVector, State


@dataclass(frozen=True)
class Budget:
    """What a learner may spend in one round.

    Attributes
    ----------
    work : int
        Environment steps, all environments of the agent together; of learners that learn from whole episodes,
        episodes; of exact ones, sweeps over all states.
    lr : float
        Step size of the optimiser in this round; exact learners keep a step size of their own.
    generator : numpy.random.Generator
        Source of every draw of the round.
    """

    work: int
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
    action_kinds : tuple of str
        The kinds of actions it can learn.
    unit : str
        What its budget is counted in: "steps", "episodes" or "sweeps".
    params : float32 array, shape (d,)
        Its whole model: load another by writing into it.
    """

    action_kinds: ClassVar[tuple[str, ...]]
    unit: ClassVar[str]
    params: FloatVector

    def train(self, budget: Budget) -> TrainStats:
        """Spend the budget, starting from `params` and leaving the local model there."""

    def restart(self) -> None:
        """Drop what a diverged training has spoiled: optimiser moments, episodes, statistics."""

    def get_state(self) -> State:
        """Return all that `train` depends on besides its budget."""

    def set_state(self, state: State) -> None:
        """Continue exactly where `get_state` was taken."""


@runtime_checkable
class WeighsCoordinates(Protocol):
    """A learner that knows how much it has seen of each of its parameters."""

    def coordinate_weights(self) -> FloatVector:
        """Weigh each parameter by what the last `train` saw of it, shape (d,), above 0."""
