"""The newest transitions of several agents on a device: a copy of what each of them remembers."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fdrl_mpi.rl.n_step import Transitions
from fdrl_mpi.rl.replay import COLUMNS, Replay


class TorchReplay:
    """Rings of A members with as many transitions each, whose places are those in their `Replay`s.

    A transition is one row of float32, its columns in the order of `COLUMNS`; actions are small whole
    numbers, which float32 holds. What the members' own memories lack comes back once a round, and what is
    here already of those that come again is not brought a second time.

    Parameters
    ----------
    num_members, capacity, observation_size : int
    device : torch.device

    Attributes
    ----------
    filled : int
        Transitions of each member.
    """

    def __init__(self, num_members: int, capacity: int, observation_size: int, device: torch.device) -> None:
        self._widths = [observation_size, 1, 1, observation_size, 1]
        self._rows = torch.zeros((num_members, capacity, sum(self._widths)), device=device)
        self._numbers = torch.arange(num_members, device=device)[:, None]
        self._capacity = capacity
        self._known: list[tuple[Replay, int] | None] = [None] * num_members
        self._next = self._added = self.filled = 0

    @staticmethod
    def values(num_members: int, capacity: int, observation_size: int) -> int:
        """Count the float32 values that it takes."""
        return num_members * capacity * (2 * observation_size + 3)

    def begin(self, replays: Sequence[Replay]) -> None:
        """Hold what these hold, of which each holds as much."""
        for row, (replay, known) in enumerate(zip(replays, self._known, strict=True)):
            if known != (replay, replay.changes):
                self._fill(row, replay)
        self._known, self._added = [None] * len(replays), 0
        self._next, self.filled = replays[0].next_place, len(replays[0])
        held = {(replay.next_place, len(replay)) for replay in replays}
        assert len(held) == 1, "members of one stage remember as much"

    def add(self, new: Tensor) -> None:
        """Put transitions, shape (A, m, columns), in the places of the oldest."""
        self._added += new.shape[1]
        self._next = (self._next + max(new.shape[1] - self._capacity, 0)) % self._capacity
        new = new[:, -self._capacity :]
        before_end = min(new.shape[1], self._capacity - self._next)
        self._rows[:, self._next : self._next + before_end] = new[:, :before_end]
        self._rows[:, : new.shape[1] - before_end] = new[:, before_end:]
        self._next = (self._next + new.shape[1]) % self._capacity
        self.filled = min(self.filled + new.shape[1], self._capacity)

    def gather(self, places: Tensor) -> list[Tensor]:
        """Copy the transitions at `places`, shape (A, n); return their columns, shape (A, n, ...)."""
        return self._columns(self._rows[self._numbers, places])

    def give_back(self, replays: Sequence[Replay]) -> None:
        """Let the members remember what was added since `begin`, which comes in one copy."""
        count = min(self._added, self._capacity)
        places = torch.arange(self._next - count, self._next) % self._capacity
        rows = self._rows.index_select(1, places.to(self._rows.device))
        host = torch.empty(rows.shape, pin_memory=rows.is_cuda).copy_(rows)
        columns = [column.numpy() for column in self._columns(host)]
        for replay, *own in zip(replays, *columns, strict=True):
            replay.add(Transitions(*own), self._added - count)
        self._known = [(replay, replay.changes) for replay in replays]

    def _fill(self, row: int, replay: Replay) -> None:
        """Copy all that a member remembers."""
        state, count = replay.get_state(), len(replay)
        columns = zip(COLUMNS, self._widths, strict=True)
        rows = np.concatenate([state[name].reshape(count, width) for name, width in columns], axis=1)
        self._rows[row, :count] = torch.from_numpy(rows.astype(np.float32))

    def _columns(self, rows: Tensor) -> list[Tensor]:
        observations, actions, rewards, following, discounts = torch.split_with_sizes(
            rows, self._widths, dim=2
        )
        return [observations, actions[:, :, 0], rewards[:, :, 0], following, discounts[:, :, 0]]
