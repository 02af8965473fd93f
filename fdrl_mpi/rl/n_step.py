"""Transitions over several steps, from rollouts that may be shorter than they are."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdrl_mpi.arrays import ActionArray, FloatMatrix, State
from fdrl_mpi.rl.rollout import Rollout

COLUMNS_OF_A_ROLLOUT = (
    "observations",
    "actions",
    "rewards",
    "final_observations",
    "terminated",
    "truncated",
)


@dataclass(frozen=True)
class Transitions:
    """Rows of what a value method learns from, shape (m, ...).

    Attributes
    ----------
    observations, next_observations : float32 arrays, shape (m, observation_size)
    actions : array, shape (m, ...)
    rewards : float32 array, shape (m,)
        ``sum_k gamma^k r_(t+k)``.
    discounts : float32 array, shape (m,)
        What the value of the next observation is multiplied by: gamma to the number of steps, 0 where the
        episode has terminated.
    """

    observations: FloatMatrix
    actions: ActionArray
    rewards: FloatMatrix
    next_observations: FloatMatrix
    discounts: FloatMatrix


class StepWindow:
    """Sums rewards over `num_steps` steps, or up to the end of the episode.

    Steps whose window is not complete wait for the next rollout. An episode that is cut by its time limit
    ends a window too, and is bootstrapped from the state it was cut in.

    Parameters
    ----------
    num_steps : int
        n.
    gamma : float

    References
    ----------
    Sutton, "Learning to Predict by the Methods of Temporal Differences", Machine Learning 3, 1988.
    """

    def __init__(self, num_steps: int, gamma: float) -> None:
        self._num_steps, self._gamma = num_steps, np.float32(gamma)
        self._waiting: dict[str, NDArray[Any]] = {}

    def push(self, rollout: Rollout) -> Transitions:
        """Take all steps of a rollout; return those whose windows are complete, in time order."""
        steps = len(rollout.rewards)
        new = {name: getattr(rollout, name)[:steps] for name in COLUMNS_OF_A_ROLLOUT}
        if self._num_steps == 1:
            discounts = np.multiply(~new["terminated"], self._gamma)
            return _flattened(new, new["rewards"], new["final_observations"], discounts)
        held = {
            name: np.concatenate([self._waiting[name], column]) if self._waiting else column
            for name, column in new.items()
        }
        length = len(held["rewards"])
        complete = max(length - self._num_steps + 1, 0)
        self._waiting = {name: column[complete:].copy() for name, column in held.items()}
        return self._combined(held, complete)

    def get_state(self) -> State:
        """Return the steps that wait."""
        return dict(self._waiting)

    def set_state(self, state: State) -> None:
        """Go on from `get_state`."""
        self._waiting = dict(state)

    def _combined(self, held: dict[str, NDArray[Any]], complete: int) -> Transitions:
        first = {name: column[:complete].copy() for name, column in held.items()}
        rewards, next_observations, terminated = (
            first[name] for name in ("rewards", "final_observations", "terminated")
        )
        discounts = np.full(rewards.shape, self._gamma, np.float32)
        going_on = ~(terminated | first["truncated"])
        for k in range(1, self._num_steps):
            later = slice(k, k + complete)
            rewards += np.where(going_on, discounts * held["rewards"][later], np.float32(0.0))
            np.copyto(next_observations, held["final_observations"][later], where=going_on[..., None])
            np.copyto(terminated, held["terminated"][later], where=going_on)
            np.multiply(discounts, self._gamma, out=discounts, where=going_on)
            going_on &= ~(held["terminated"][later] | held["truncated"][later])
        discounts[terminated] = 0.0
        return _flattened(first, rewards, next_observations, discounts)


def _flattened(
    steps: dict[str, NDArray[Any]],
    rewards: FloatMatrix,
    next_observations: FloatMatrix,
    discounts: FloatMatrix,
) -> Transitions:
    """Put steps of all environments, (T, N, ...), one below the other."""
    rows = rewards.size
    observations, actions = steps["observations"], steps["actions"]
    return Transitions(
        observations.reshape(rows, *observations.shape[2:]),
        actions.reshape(rows, *actions.shape[2:]),
        rewards.reshape(rows),
        next_observations.reshape(rows, *observations.shape[2:]),
        discounts.reshape(rows),
    )
