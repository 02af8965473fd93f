"""A thread answers for its rank, whatever that does; nobody answers for one that has left."""

import time
from collections.abc import Callable

import pytest

from fdrl_mpi.comm.pulse import Pulse
from fdrl_mpi.comm.world import World

pytestmark = pytest.mark.mpi(min_size=2)
LIMIT_S = 1.0


def _asked_for(pulse: Pulse, rank: int, seconds: float) -> bool:
    """Ask a rank again and again; return whether it was silent at any time."""
    until, was_silent = time.monotonic() + seconds, False
    while time.monotonic() < until:
        was_silent |= pulse.is_silent(rank)
        time.sleep(0.05)
    return was_silent


def test_a_rank_that_is_busy_answers(world: World, on_all_ranks: Callable[[bool, str], None]) -> None:
    pulse, is_fine = Pulse(world.comm, 3 * LIMIT_S), True
    if world.rank == 0:
        is_fine = not _asked_for(pulse, world.size - 1, 6 * LIMIT_S)
    else:
        until = time.monotonic() + 6 * LIMIT_S
        while time.monotonic() < until:
            sum(range(100_000))
    world.barrier()
    pulse.close()
    on_all_ranks(is_fine, "silent")


def test_a_rank_that_has_left_is_silent(world: World, on_all_ranks: Callable[[bool, str], None]) -> None:
    pulse = Pulse(world.comm, LIMIT_S)
    if world.rank == world.size - 1:
        pulse.close()
    world.barrier()
    is_fine = world.rank == world.size - 1 or _asked_for(pulse, world.size - 1, 3 * LIMIT_S)
    world.barrier()
    pulse.close()
    on_all_ranks(is_fine, "answered")
