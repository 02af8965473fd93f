"""What an off-policy learner remembers: a ring of transitions, sampled with replacement."""

from dataclasses import dataclass

import numpy as np

from fdrl_mpi.arrays import ActionArray, FloatMatrix, FloatVector, State


@dataclass(frozen=True)
class Transitions:
    """Steps of environments, one a row.

    Attributes
    ----------
    observations, next_observations : float32 arrays, shape (n, observation_size)
        Before and after the step; the latter is the true one, also where an episode ended.
    actions : array, shape (n, *action_shape)
    rewards : float32 array, shape (n,)
    terminated : float32 array, shape (n,)
        1 where the step led to a terminal state, else 0.
    """

    observations: FloatMatrix
    actions: ActionArray
    rewards: FloatVector
    next_observations: FloatMatrix
    terminated: FloatVector

    def columns(self) -> tuple[ActionArray, ...]:
        return self.observations, self.actions, self.rewards, self.next_observations, self.terminated


class Replay:
    """The newest `capacity` transitions.

    Parameters
    ----------
    capacity : int
    observation_size : int
    action_shape : tuple of int
        Of one action.
    action_dtype : numpy dtype

    Notes
    -----
    All memory is reserved at once, and touched as it fills.
    """

    def __init__(
        self,
        capacity: int,
        observation_size: int,
        action_shape: tuple[int, ...],
        action_dtype: type[np.generic],
    ) -> None:
        self.capacity = capacity
        self._observation_size, self._action_shape, self._action_dtype = (
            observation_size,
            action_shape,
            action_dtype,
        )
        self._ring = self._allocate(capacity)
        self._filled, self._next = 0, 0
        self._batches: dict[int, Transitions] = {}

    def __len__(self) -> int:
        return self._filled

    def add(
        self,
        observations: FloatMatrix,
        actions: ActionArray,
        rewards: FloatVector,
        next_observations: FloatMatrix,
        terminated: ActionArray,
    ) -> None:
        """Remember n transitions, forgetting the oldest ones; ``n <= capacity``.

        Parameters
        ----------
        terminated : bool or float32 array, shape (n,)
        """
        rows = (observations, actions, rewards, next_observations, terminated)
        start, stop = self._next, self._next + len(rewards)
        if stop <= self.capacity:
            for column, values in zip(self._ring.columns(), rows, strict=True):
                column[start:stop] = values
        else:
            head = self.capacity - start
            for column, values in zip(self._ring.columns(), rows, strict=True):
                column[start:] = values[:head]
                column[: stop - self.capacity] = values[head:]
        self._next = stop % self.capacity
        self._filled = max(self._filled, min(stop, self.capacity))

    def sample(
        self, generator: np.random.Generator, batch_size: int, out: Transitions | None = None
    ) -> Transitions:
        """Draw transitions uniformly, with replacement.

        Parameters
        ----------
        out : Transitions, optional
            Where they are written; by default in arrays that the next sample of this size overwrites.
        """
        if out is None:
            if batch_size not in self._batches:
                self._batches[batch_size] = self._allocate(batch_size)
            out = self._batches[batch_size]
        chosen = generator.integers(self._filled, size=batch_size)
        for column, gathered in zip(self._ring.columns(), out.columns(), strict=True):
            column.take(chosen, axis=0, out=gathered, mode="clip")  # other modes buffer `out`
        return out

    def get_state(self) -> State:
        """Return what is filled, and where the next transition goes."""
        names = ("observations", "actions", "rewards", "next_observations", "terminated")
        columns = zip(names, self._ring.columns(), strict=True)
        return {"next": self._next, **{name: column[: self._filled].copy() for name, column in columns}}

    def set_state(self, state: State) -> None:
        """Go on from `get_state` of a ring of the same capacity."""
        self._next, self._filled = int(state["next"]), len(state["rewards"])
        ring = self._ring
        ring.observations[: self._filled] = state["observations"]
        ring.actions[: self._filled] = state["actions"]
        ring.rewards[: self._filled] = state["rewards"]
        ring.next_observations[: self._filled] = state["next_observations"]
        ring.terminated[: self._filled] = state["terminated"]

    def clear(self) -> None:
        """Forget everything."""
        self._filled, self._next = 0, 0

    def _allocate(self, rows: int) -> Transitions:
        observations, next_observations = (
            np.zeros((rows, self._observation_size), np.float32) for _ in range(2)
        )
        actions: ActionArray = np.zeros((rows, *self._action_shape), self._action_dtype)
        rewards, terminated = (np.zeros(rows, np.float32) for _ in range(2))
        return Transitions(observations, actions, rewards, next_observations, terminated)
