"""The small agreements between ranks."""

import numpy as np
import pytest

pytestmark = pytest.mark.mpi(min_size=2)


def test_meeting_returns_the_sum_of_all_contributions_on_every_rank(world, on_all_ranks):
    total = world.meet(np.array([1.0, world.rank]), lambda: False)
    expected = [world.size, world.size * (world.size - 1) / 2]
    on_all_ranks(total.tolist() == expected, f"got {total}")


def test_meeting_uses_the_time_of_a_rank_that_waits(world, on_all_ranks):
    slices = []

    def meanwhile() -> bool:
        slices.append(1)
        return len(slices) < 5

    if world.rank == world.size - 1:
        while world.comm.Iprobe(source=0):  # come late, but without a clock
            pass
    world.meet(np.zeros(1), meanwhile)
    on_all_ranks(len(slices) < 10**6, "the work of a waiting rank never ended")


def test_one_rank_in_trouble_is_trouble_for_all(world, on_all_ranks):
    on_all_ranks(world.agree(True), "all were fine")
    on_all_ranks(not world.agree(world.rank != world.size - 1), "the last rank was not fine")


def test_root_gets_one_row_from_each_rank(world, on_all_ranks):
    rows = world.gather_rows(np.full(3, float(world.rank)))
    if world.is_root:
        on_all_ranks(np.array_equal(rows, np.arange(world.size)[:, None] * np.ones(3)), f"got {rows}")
    else:
        on_all_ranks(rows is None, "only the root receives rows")
