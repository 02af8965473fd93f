"""Agents on ranks, and slices of a model."""

from hypothesis import given
from hypothesis import strategies as st

from fdrl_mpi.topology.placement import Placement
from fdrl_mpi.topology.slices import cut


@given(st.integers(2, 70), st.integers(0, 500))
def test_every_seat_has_one_rank_and_numbers_follow_the_ranks(num_ranks, num_agents):
    placement = Placement(num_ranks, num_agents)
    seats = [seat for rank in range(num_ranks) for seat in placement.seats_of(rank)]
    assert seats == list(range(1, num_agents + 1))
    counts = [len(placement.seats_of(rank)) for rank in range(1, num_ranks)]
    assert counts == sorted(counts, reverse=True)
    assert max(counts) == placement.agents_per_rank <= min(counts) + 1
    assert placement.is_even == (len(set(counts)) == 1) == (not placement.describe())
    assert len(placement.seats_of(0)) == 0


def test_who_sits_where_is_said():
    assert Placement(17, 100).describe() == "7 on each of ranks 1 to 4, 6 on each of the other 12"
    assert Placement(3, 5).describe() == "3 on rank 1, 2 on the other"


@given(st.integers(0, 10_000), st.integers(1, 70), st.integers(1, 512))
def test_slices_cover_everything_once_in_whole_blocks(length, parts, block):
    slices = cut(length, parts, block)
    assert [i for s in slices for i in range(s.start, s.stop)] == list(range(length))
    assert len(slices) == parts
    assert all(s.start % block == 0 or s.start == length for s in slices)
    sizes = [-(-(s.stop - s.start) // block) for s in slices]
    assert max(sizes) - min(sizes) <= 1
