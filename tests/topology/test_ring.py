"""The ring of a secure sum: symmetric, connected, and refused where it protects nobody."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdrl_mpi.topology.ring import check_ring_degree, ring_neighbours, ring_order


@given(st.integers(2, 40), st.integers(1, 10), st.binary(min_size=32, max_size=32))
def test_neighbours_are_mutual_and_as_many_as_the_ring_has(size, degree, seed):
    order = ring_order(seed, range(1, size + 1))
    assert sorted(order) == list(range(1, size + 1))
    around = {party: ring_neighbours(order, party, degree) for party in order}
    for party, neighbours in around.items():
        assert len(neighbours) == min(2 * degree, size - 1)
        assert party not in neighbours
        assert all(party in around[other] for other in neighbours)


def test_order_follows_from_the_seed_and_not_from_the_order_of_arrival():
    parties = list(range(1, 33))
    assert ring_order(b"a" * 32, parties) == ring_order(b"a" * 32, parties[::-1])
    assert ring_order(b"a" * 32, parties) != ring_order(b"b" * 32, parties)


@pytest.mark.parametrize(("size", "degree"), [(7, 1), (8, 2), (9, 3)])
def test_honest_parties_stay_connected_when_as_many_as_the_rule_allows_are_gone(size, degree):
    order = ring_order(b"s" * 32, range(size))
    around = {party: set(ring_neighbours(order, party, degree)) for party in order}

    def connected(left):
        found, queue = {min(left)}, [min(left)]
        while queue:
            new = around[queue.pop()] & left - found
            found |= new
            queue += new
        return found == left

    allowed = 2 * degree - 1
    assert all(connected(set(range(size)) - set(gone)) for gone in combinations(range(size), allowed))
    assert not all(connected(set(range(size)) - set(gone)) for gone in combinations(range(size), allowed + 1))
    check_ring_degree(size, degree, colluders=allowed, dropouts=0)
    with pytest.raises(ValueError, match=f"{degree + 1} are needed"):
        check_ring_degree(size, degree, colluders=allowed + 1, dropouts=0)


def test_sum_of_one_honest_party_is_refused():
    check_ring_degree(4, 4, colluders=1, dropouts=1)
    with pytest.raises(ValueError, match="at least 4 are needed"):
        check_ring_degree(3, 4, colluders=1, dropouts=1)
