"""What `envs` and `rl` both know of a batch of environments: its actions, and where a step is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fdrl_mpi.arrays import BoolVector, FloatMatrix, FloatVector


@dataclass(frozen=True)
class ActionSpec:
    """What an agent can do: make one choice, several choices at once, or give `size` real numbers.

    Attributes
    ----------
    kind : "discrete", "multi_discrete" or "box"
    size : int
        Outputs a policy needs: one per choice, of all components together, or one per number.
    low, high : tuples of float
        Bounds of each number, may be infinite; of choices the numbers of the first and the last one, of each
        component.
    sizes : tuple of int
        Number of choices of each component of a multi-discrete action, `size` in sum; empty for the others.
    """

    kind: Literal["discrete", "multi_discrete", "box"]
    size: int
    low: tuple[float, ...]
    high: tuple[float, ...]
    sizes: tuple[int, ...] = ()


class StepBuffers:
    """Where one step of N environments is written.

    A rollout passes row t of its (T, N, ...) arrays, so that results land where they are used.

    Parameters
    ----------
    observations : float32 array, shape (N, observation_size)
        What the policy sees next: of a finished environment the first observation of its new episode.
    rewards : float32 array, shape (N,)
    terminated : bool array, shape (N,)
        The episode ended in a terminal state.
    truncated : bool array, shape (N,)
        The episode was cut by its time limit. Both may be true of the same step.
    final_observations : float32 array, shape (N, observation_size)
        What the step led to, of every environment, also where the episode goes on: bootstrap from these.

    Attributes
    ----------
    any_done : bool
        Whether an episode ended in the last step; spares the caller two reductions.
    observation_items, terminated_items, truncated_items, final_items : memoryview
        The same memory, flat: Python writes a single number there several times faster than through numpy.

    Raises
    ------
    ValueError
        If an array has another dtype or shape, or is not C-contiguous.
    """

    __slots__ = (
        "any_done",
        "final_items",
        "final_observations",
        "observation_items",
        "observations",
        "rewards",
        "terminated",
        "terminated_items",
        "truncated",
        "truncated_items",
    )

    def __init__(
        self,
        observations: FloatMatrix,
        rewards: FloatVector,
        terminated: BoolVector,
        truncated: BoolVector,
        final_observations: FloatMatrix,
    ) -> None:
        self.any_done = False
        self.observations = observations
        self.rewards = rewards
        self.terminated = terminated
        self.truncated = truncated
        self.final_observations = final_observations
        num_envs, observation_size = observations.shape
        self.observation_items = _items(observations, np.float32, (num_envs, observation_size))
        _items(rewards, np.float32, (num_envs,))
        self.terminated_items = _items(terminated, np.bool_, (num_envs,))
        self.truncated_items = _items(truncated, np.bool_, (num_envs,))
        self.final_items = _items(final_observations, np.float32, (num_envs, observation_size))

    @classmethod
    def allocate(cls, num_envs: int, observation_size: int) -> StepBuffers:
        """Make buffers of their own, all zero."""
        return cls(
            observations=np.zeros((num_envs, observation_size), np.float32),
            rewards=np.zeros(num_envs, np.float32),
            terminated=np.zeros(num_envs, np.bool_),
            truncated=np.zeros(num_envs, np.bool_),
            final_observations=np.zeros((num_envs, observation_size), np.float32),
        )


def _items(array: NDArray[Any], dtype: type[np.generic], shape: tuple[int, ...]) -> memoryview:
    if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
        layout = "" if array.flags.c_contiguous else ", not C-contiguous"
        raise ValueError(
            f"step buffer has dtype {array.dtype} and shape {array.shape}{layout}; "
            f"needed: {np.dtype(dtype)} and {shape}, C-contiguous"
        )
    return array.reshape(-1).data
