"""Memories on a device: those of the members, and brought there only where they are not."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from fdrl_mpi.rl.n_step import Transitions
from fdrl_mpi.rl.replay import COLUMNS, Replay
from fdrl_mpi.rl.torch_replay import TorchReplay

CAPACITY, SIZE = 7, 3


class Watched(TorchReplay):
    """Notes whose memory is copied as a whole."""

    def __init__(self, num_members: int) -> None:
        super().__init__(num_members, CAPACITY, SIZE, torch.device("cpu"))
        self.copied: list[int] = []

    def _fill(self, row: int, replay: Replay) -> None:
        self.copied.append(row)
        super()._fill(row, replay)


def _transitions(first: int, count: int) -> Transitions:
    numbers = np.arange(first, first + count, dtype=np.float32)
    rows = np.repeat(numbers[:, None], SIZE, axis=1)
    return Transitions(rows, numbers.astype(np.int64), 0.5 * numbers, rows + 1.0, 0.25 * numbers)


def _rows(first: int, count: int) -> torch.Tensor:
    new = _transitions(first, count)
    columns = [getattr(new, name).reshape(count, -1) for name in COLUMNS]
    return torch.from_numpy(np.concatenate(columns, axis=1).astype(np.float32))


def _replays(num_members: int) -> list[Replay]:
    return [Replay(CAPACITY, SIZE, (), np.int64, 4) for _ in range(num_members)]


def _remember(memory: TorchReplay, replays: Sequence[Replay], counts: Sequence[int], first: int) -> None:
    """Go through a round in which member m sees what is numbered from 100 m + first on."""
    memory.begin(replays)
    for count in counts:
        new = [_rows(100 * member + first, count) for member in range(len(replays))]
        memory.add(torch.stack(new))
        first += count
    memory.give_back(replays)


def _check_equal(memory: TorchReplay, ours: Sequence[Replay], theirs: Sequence[Replay]) -> None:
    places = torch.arange(memory.filled).expand(len(ours), -1)
    for member, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        mine, its = one.get_state(), other.get_state()
        for name, column in zip(COLUMNS, memory.gather(places), strict=True):
            np.testing.assert_array_equal(mine[name], its[name])
            np.testing.assert_array_equal(column[member].numpy(), its[name])
        assert (mine["next"], mine["filled"]) == (its["next"], its["filled"])


@pytest.mark.parametrize("counts", [[1], [2, 2, 1], [5], [7], [3, 6], [9], [8, 8, 8], [16, 1]])
def test_members_remember_what_they_would_alone(counts: list[int]) -> None:
    memory, ours, theirs = Watched(2), _replays(2), _replays(2)
    for round in range(3):
        first = 30 * round
        _remember(memory, ours, counts, first)
        for count in counts:
            for member, replay in enumerate(theirs):
                replay.add(_transitions(100 * member + first, count))
            first += count
        _check_equal(memory, ours, theirs)
    assert memory.copied == [0, 1], "only in the first round"


def test_only_memories_that_others_have_written_are_copied_again() -> None:
    memory, replays = Watched(3), _replays(3)
    _remember(memory, replays, [2], 0)
    memory.copied.clear()
    _remember(memory, replays, [2], 2)
    assert memory.copied == []
    saved = replays[1].get_state()
    replays[1].set_state(saved)
    replays[2] = Replay(CAPACITY, SIZE, (), np.int64, 4)
    replays[2].set_state(saved)
    _remember(memory, replays, [1], 4)
    assert memory.copied == [1, 2]
    _check_equal(memory, replays, replays)


def test_what_was_not_given_back_counts_nothing() -> None:
    memory, replays = Watched(1), _replays(1)
    _remember(memory, replays, [3], 0)
    memory.begin(replays)
    memory.add(_rows(50, 4)[None])
    memory.begin(replays)
    _check_equal(memory, replays, replays)
