"""The small agreements between ranks."""

import numpy as np
import pytest

from fdrl_mpi.comm.world import World

pytestmark = pytest.mark.mpi(min_size=2)


@pytest.fixture(scope="module", params=["MPI", "watched"])
def world(request, world):
    return world if request.param == "MPI" else request.getfixturevalue("watched_world")


def test_meeting_shows_every_rank_what_all_of_them_brought(world, on_all_ranks):
    ballots = world.meet(np.array([1.0, world.rank]), lambda: False)
    expected = [[1.0, rank] for rank in range(world.size)]
    on_all_ranks(ballots.tolist() == expected, f"got {ballots}")


def test_meeting_uses_the_time_of_a_rank_that_waits(world, on_all_ranks):
    slices = []

    def meanwhile() -> bool:
        slices.append(1)
        return len(slices) < 5

    if world.rank == world.size - 1:
        sum(range(10**6))  # come late, but without a clock
    world.meet(np.zeros(1), meanwhile)
    on_all_ranks(len(slices) < 10**6, "the work of a waiting rank never ended")


def test_one_rank_in_trouble_is_trouble_for_all(world, on_all_ranks):
    on_all_ranks(world.agree(True), "all were fine")
    on_all_ranks(not world.agree(world.rank != world.size - 1), "the last rank was not fine")


def test_what_has_a_place_for_every_seat_is_taken_to_the_agents(world, on_all_ranks):
    wide = World(world.comm, num_agents=2 * world.size - 1)  # an agent more than two on each
    rows = np.array([[agent, 10.0 * agent] for agent in wide.agents])
    table = wide.gather_agent_rows(rows.reshape(-1, 2))
    expected = [[agent, 10.0 * agent] for agent in range(1, 2 * world.size)]
    on_all_ranks(table is None if not world.is_root else table.tolist() == expected, str(table))


@pytest.mark.parametrize("agents_per_rank", [1, 3])
def test_root_gets_one_row_from_each_agent(world, on_all_ranks, agents_per_rank):
    wide = World(world.comm, agents_per_rank)
    rows = np.array([[float(agent)] * 2 for agent in wide.agents]).reshape(-1, 2)
    table = wide.gather_agent_rows(rows)
    if world.is_root:
        on_all_ranks(table[:, 0].tolist() == list(range(1, wide.num_agents + 1)), f"got {table}")
    else:
        on_all_ranks(table is None, "only the root receives rows")
