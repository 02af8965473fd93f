"""What tables that are learnt together draw: from their members' own generators, or on the device itself."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from fdrl_mpi.rl.team import Generators
from fdrl_mpi.rl.torch_draws import EXPLORATION, NOISE, STARTS, CounterDraws, Generated


class TableDraws(Protocol):
    """Random numbers of A members with N environments each, where the members' tables are."""

    def explored(self, steps: int, epsilon: float | None) -> Tensor:
        """Draw an action for each of the next steps where it is to be any, and -1 where it is to be the best.

        Shape (T, A * N), int64; without `epsilon` it is always any.
        """

    def successors(self) -> Tensor:
        """Draw a number from 0 to 1 for the next state of each environment, shape (A * N,), float64."""

    def starts(self, done: Tensor) -> Tensor:
        """Draw a number for the first state of the episodes that begin now, shape (A * N,), float64.

        What stands in the places of other environments means nothing.
        """


class OwnTableDraws:
    """The numbers that every member would draw alone, drawn in host memory."""

    def __init__(self, generators: Generated, num_envs: int, num_actions: int, device: torch.device) -> None:
        self._generators, self._num_envs = Generators(generators), num_envs
        self._num_actions, self._device = num_actions, device
        self._size = len(generators) * num_envs

    def explored(self, steps: int, epsilon: float | None) -> Tensor:
        """See `TableDraws.explored`."""
        shape = (steps, self._size)
        chosen = self._generators.integers(self._num_actions, shape)
        if epsilon is not None:
            chosen[self._generators.random(shape) >= epsilon] = -1
        return torch.from_numpy(chosen).to(self._device)

    def successors(self) -> Tensor:
        """See `TableDraws.successors`."""
        return torch.from_numpy(self._generators.random((self._size,))).to(self._device)

    def starts(self, done: Tensor) -> Tensor:
        """See `TableDraws.starts`."""
        finished = done.cpu().numpy().reshape(-1, self._num_envs)
        starts = np.zeros(finished.shape)
        for member in np.flatnonzero(finished.any(axis=1)).tolist():
            count = int(finished[member].sum())
            starts[member, finished[member]] = self._generators.members[member].random(count)
        return torch.from_numpy(starts.ravel()).to(self._device)


class CounterTableDraws(CounterDraws):
    """Numbers computed on the device; those of several steps at once."""

    def __init__(self, generators: Generated, num_envs: int, num_actions: int, device: torch.device) -> None:
        super().__init__(generators, num_envs, device)
        self._num_actions, self._step = num_actions, 0
        self._successors = self._first = torch.zeros(0, device=device)

    def explored(self, steps: int, epsilon: float | None) -> Tensor:  # type: ignore[override]
        """See `TableDraws.explored`; prepares what is drawn in these steps."""
        self._step = -1
        self._successors = self._by_step(self._uniform(NOISE, steps * self._num_envs), steps).double()
        self._first = self._by_step(self._uniform(STARTS, steps * self._num_envs), steps).double()
        words = self._words(EXPLORATION, 2 * steps * self._num_envs).view(len(self._keys), 2, -1)
        any_action = (self._by_step(words[:, 0], steps) * self._num_actions) >> 32
        if epsilon is None:
            return any_action
        return torch.where(self._by_step(words[:, 1], steps) < epsilon * 2.0**32, any_action, -1)

    def successors(self) -> Tensor:
        """See `TableDraws.successors`."""
        self._step += 1
        return self._successors[self._step]

    def starts(self, done: Tensor) -> Tensor:  # type: ignore[override]
        """See `TableDraws.starts`."""
        return self._first[self._step]

    def _by_step(self, drawn: Tensor, steps: int) -> Tensor:
        """Order by steps, (T, A * N), what each member has drawn, (A, T * N)."""
        return drawn.reshape(len(self._keys), steps, self._num_envs).transpose(0, 1).reshape(steps, -1)
