"""The interface of a batch of environments that are stepped together."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from fdrl_mpi.arrays import FloatMatrix, State
from fdrl_mpi.steps import ActionSpec, StepBuffers


class VectorEnv(Protocol):
    """N copies of an environment, each in a world of its own, stepped together.

    An environment that finishes starts its next episode in the same step, so no step is ever lost. Every
    draw comes from the stream last given to `reset` or `reseed`.

    Attributes
    ----------
    num_envs : int
        N, fixed by the contexts given to the constructor.
    action_spec : ActionSpec
        Of one environment.
    observation_size : int
        Length of one observation; whatever its space, it is delivered as a flat float32 row.
    observation_shape : tuple of int
        What a row is when it is not flat: an image or another array of three dimensions, in C order and with
        its axes as the space has them; else ``(observation_size,)``.
    observation_divisor : float
        What the space's numbers were divided by: 255 for images of bytes, else 1.
    is_vectorised : bool
        True: marks a class that takes all contexts, not one.
    """

    is_vectorised: ClassVar[bool]
    num_envs: int
    action_spec: ActionSpec
    observation_size: int
    observation_shape: tuple[int, ...]
    observation_divisor: float

    def reset(self, generator: np.random.Generator) -> FloatMatrix:
        """Start a new episode everywhere and draw from `generator` from now on.

        Returns
        -------
        float32 array, shape (N, observation_size)
            First observations, owned by the caller.
        """

    def reseed(self, generator: np.random.Generator) -> None:
        """Draw from `generator` from now on; the episodes under way go on."""

    def step(self, actions: NDArray[Any], out: StepBuffers) -> None:
        """Apply one action in every environment and write what follows into `out`.

        Parameters
        ----------
        actions : int64 array, shape (N,) or (N, components), or float32 array, shape (N, action_size)
            Counted from 0 for a Discrete space, and in every place of a row for MultiDiscrete and
            MultiBinary; for a Box one row each, clipped to its bounds.
        """

    def get_state(self) -> State:
        """Copy all that is needed to go on, except the random stream."""

    def set_state(self, state: State) -> FloatMatrix:
        """Go on from a `get_state` of an environment made from the same contexts.

        With an equal `reseed` before and after, what follows is equal bit for bit.

        Returns
        -------
        float32 array, shape (N, observation_size)
            Current observations, owned by the caller.

        Raises
        ------
        ValueError
            If the state belongs to another environment.
        """

    def close(self) -> None:
        """Release what the environments hold outside Python's memory."""
