"""The newest transitions of an agent; they never leave it."""

import numpy as np

from fdrl_mpi.arrays import ActionArray, FloatMatrix, FloatVector, IntVector, State
from fdrl_mpi.rl.n_step import Transitions

COLUMNS = ("observations", "actions", "rewards", "next_observations", "discounts")


class Replay:
    """A ring of transitions in preallocated arrays.

    Parameters
    ----------
    capacity : int
        Transitions kept; the oldest give way.
    observation_size : int
    action_shape : tuple
        Of one action.
    action_dtype : numpy dtype
    batch_size : int
        Transitions drawn at a time.

    Attributes
    ----------
    changes : int
        How often something was written.
    """

    def __init__(
        self,
        capacity: int,
        observation_size: int,
        action_shape: tuple[int, ...],
        action_dtype: type[np.generic],
        batch_size: int,
    ) -> None:
        self._capacity = capacity
        self._rows = allocate_transitions(capacity, observation_size, action_shape, action_dtype)
        self._batch = allocate_transitions(batch_size, observation_size, action_shape, action_dtype)
        self._columns = [getattr(self._rows, name) for name in COLUMNS]
        self._next = self._filled = self.changes = 0
        self.batch_size = batch_size

    def __len__(self) -> int:
        return self._filled

    @property
    def next_place(self) -> int:
        """Where the next transition will lie."""
        return self._next

    def add(self, new: Transitions, skipped: int = 0) -> IntVector:
        """Put transitions in the places of the oldest; return the places, shape (m,).

        `skipped` others came before them, to which a whole ring of new ones leaves no place.
        """
        count, start = len(new.rewards), (self._next + skipped) % self._capacity
        stop = start + count
        self._next = stop % self._capacity
        self._filled = min(self._filled + count, self._capacity)
        self.changes += 1
        if stop <= self._capacity:
            for column, name in zip(self._columns, COLUMNS, strict=True):
                column[start:stop] = getattr(new, name)
            return np.arange(start, stop)
        places: IntVector = np.arange(start, stop) % self._capacity
        for name in COLUMNS:
            getattr(self._rows, name)[places] = getattr(new, name)
        return places

    def draw(self, generator: np.random.Generator, out: Transitions | None = None) -> Transitions:
        """Draw a batch uniformly with replacement, into `out` or where the next batch overwrites it."""
        return self.gather(generator.integers(self._filled, size=self.batch_size), out)

    def gather(self, places: IntVector, out: Transitions | None = None) -> Transitions:
        """Copy the transitions at these places to the batch."""
        batch = self._batch if out is None else out
        for column, name in zip(self._columns, COLUMNS, strict=True):
            column.take(places, axis=0, out=getattr(batch, name), mode="clip")
        return batch

    def get_state(self) -> State:
        """Return what is filled."""
        rows = {name: getattr(self._rows, name)[: self._filled].copy() for name in COLUMNS}
        return {**rows, "next": self._next, "filled": self._filled}

    def set_state(self, state: State) -> None:
        """Go on from `get_state`."""
        self._next, self._filled = int(state["next"]), int(state["filled"])
        self.changes += 1
        for name in COLUMNS:
            getattr(self._rows, name)[: self._filled] = state[name]


def allocate_transitions(
    rows: int, observation_size: int, action_shape: tuple[int, ...], action_dtype: type[np.generic]
) -> Transitions:
    """Make room for transitions, all zero."""
    observations: FloatMatrix = np.zeros((rows, observation_size), np.float32)
    actions: ActionArray = np.zeros((rows, *action_shape), action_dtype)
    numbers: FloatVector = np.zeros(rows, np.float32)
    return Transitions(observations, actions, numbers, observations.copy(), numbers.copy())
