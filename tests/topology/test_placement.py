"""Agents on ranks, and slices of a model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdrl_mpi.topology.placement import Placement
from fdrl_mpi.topology.slices import cut


@pytest.mark.parametrize(("num_ranks", "agents_per_rank"), [(2, 1), (4, 3), (5, 7), (17, 64)])
def test_every_seat_has_one_rank_and_numbers_follow_the_ranks(num_ranks, agents_per_rank):
    placement = Placement(num_ranks, agents_per_rank)
    seats = [seat for rank in range(num_ranks) for seat in placement.seats_of(rank)]
    assert seats == list(range(1, placement.num_agents + 1))
    assert len(placement.seats_of(0)) == 0


@given(st.integers(0, 10_000), st.integers(1, 70), st.integers(1, 512))
def test_slices_cover_everything_once_in_whole_blocks(length, parts, block):
    slices = cut(length, parts, block)
    assert [i for s in slices for i in range(s.start, s.stop)] == list(range(length))
    assert len(slices) == parts
    assert all(s.start % block == 0 or s.start == length for s in slices)
    sizes = [-(-(s.stop - s.start) // block) for s in slices]
    assert max(sizes) - min(sizes) <= 1
