"""Sums that do not depend on who adds which part."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdrl_mpi.aggregation.sums import BLOCK, shares, weighted_sum
from fdrl_mpi.streams import stream
from fdrl_mpi.topology.slices import cut


def _case(num_rows: int, length: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    generator = stream(num_rows, "rows", length)
    rows = generator.standard_normal((num_rows, length + stride), dtype=np.float32)[:, :length]
    return generator.random(num_rows, dtype=np.float32), rows


@pytest.mark.parametrize("num_rows", [1, 2, 3, 16, 17, 64, 100])
@pytest.mark.parametrize("length", [1, 2, 15, BLOCK - 1, BLOCK, BLOCK + 1, 50_001])
@pytest.mark.parametrize("parts", [2, 3, 17])
def test_slices_give_the_bits_of_the_whole(num_rows, length, parts):
    weights, rows = _case(num_rows, length, stride=5)
    whole = weighted_sum(weights, np.ascontiguousarray(rows))
    pieces = np.concatenate([weighted_sum(weights, rows[:, part]) for part in cut(length, parts, BLOCK)])
    assert pieces.tobytes() == whole.tobytes()


@given(st.integers(1, 40), st.integers(0, 9000))
def test_sum_is_that_of_float64_to_rounding(num_rows, length):
    weights, rows = _case(num_rows, length, stride=0)
    exact = weights.astype(np.float64) @ rows.astype(np.float64)
    bound = np.abs(weights).astype(np.float64) @ np.abs(rows).astype(np.float64)
    assert np.all(np.abs(weighted_sum(weights, rows) - exact) <= num_rows * 2.0**-23 * bound)


def test_sum_is_written_where_it_is_wanted():
    weights, rows = _case(3, 5000, stride=0)
    out = np.empty(5000, np.float32)
    assert weighted_sum(weights, rows, out) is out
    assert np.array_equal(out, weighted_sum(weights, rows))


@given(st.lists(st.floats(0.0, 1e6), min_size=1).filter(any))
def test_shares_add_up_to_one_and_keep_their_proportions(weights):
    given_weights = np.array(weights)
    part = shares(given_weights)
    assert part.dtype == np.float32
    assert np.isclose(part.sum(dtype=np.float64), 1.0, rtol=1e-5)
    assert np.allclose(part, given_weights / given_weights.sum(), rtol=1e-6)
