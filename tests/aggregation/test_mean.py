"""The weighted mean, from the sum and from the stack, against a naive one in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdrl_mpi.aggregation.mean import CoordinateMean, Mean
from fdrl_mpi.aggregation.server import Average
from fdrl_mpi.aggregation.views import Received, Stack, Sum, View
from fdrl_mpi.streams import stream

SIZES = {"n": st.integers(1, 12), "d": st.integers(1, 40), "seed": st.integers(0, 10**6)}
FEW = settings(max_examples=25, deadline=None, derandomize=True, database=None)


def _cohort(n: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Updates and weights; some agents are absent, but not all."""
    draws = stream(seed, "cohort")
    weights = draws.integers(0, 5000, n).astype(np.float32) * (draws.random(n) < 0.7)
    weights[draws.integers(n)] = 1.0 + draws.random()
    return draws.standard_normal((n, d), dtype=np.float32), weights.astype(np.float32)


def _views(rows: np.ndarray, weights: np.ndarray) -> list[Received]:
    """The same cohort as a stack, as a sum, and as a sum of shares."""
    shares = weights / weights.sum()
    return [
        Stack(rows, weights),
        Sum(weights @ rows, float(weights.sum())),
        Sum(shares.astype(np.float32) @ rows, 1.0),
    ]


def _tolerance(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Float32 rounding: half a unit for each of n products, n sums, the weight and the quotient."""
    magnitude = np.abs(rows).T.astype(np.float64) @ weights / weights.sum(dtype=np.float64)
    return (2 * len(rows) + 3) * np.finfo(np.float32).eps * magnitude


@FEW
@given(**SIZES)
def test_mean_is_the_naive_weighted_mean_whatever_is_visible(n: int, d: int, seed: int) -> None:
    rows, weights = _cohort(n, d, seed)
    naive = sum(float(w) * row.astype(np.float64) for w, row in zip(weights, rows, strict=True))
    naive /= sum(map(float, weights))
    for received in _views(rows, weights):
        mean = Mean().aggregate(received)
        assert mean.dtype == np.float32
        assert mean.shape == (d,)
        assert (np.abs(mean - naive) <= _tolerance(rows, weights)).all()


@FEW
@given(**SIZES)
def test_mean_of_equal_updates_is_that_update(n: int, d: int, seed: int) -> None:
    rows, weights = _cohort(n, d, seed)
    rows[:] = rows[0]
    for received in _views(rows, weights):
        assert (np.abs(Mean().aggregate(received) - rows[0]) <= _tolerance(rows, weights)).all()


@FEW
@given(**SIZES)
def test_the_order_of_the_agents_changes_nothing_beyond_rounding(n: int, d: int, seed: int) -> None:
    rows, weights = _cohort(n, d, seed)
    order = stream(seed, "order").permutation(n)
    views = zip(_views(rows, weights), _views(rows[order], weights[order]), strict=True)
    for received, permuted in views:
        difference = Mean().aggregate(received) - Mean().aggregate(permuted)
        assert (np.abs(difference) <= 2 * _tolerance(rows, weights)).all()


def test_an_update_of_weight_zero_is_ignored() -> None:
    rows = np.array([[1.0, 2.0], [1e30, -1e30], [3.0, 6.0]], np.float32)
    mean = Mean().aggregate(Stack(rows, np.array([1.0, 0.0, 1.0], np.float32)))
    np.testing.assert_array_equal(mean, [2.0, 4.0])


def test_mean_of_three_to_one() -> None:
    rows, weights = np.array([[4.0, -8.0], [8.0, 0.0]], np.float32), np.array([3.0, 1.0], np.float32)
    for received in _views(rows, weights):
        np.testing.assert_array_equal(Mean().aggregate(received), [5.0, -6.0])


def test_only_the_ratio_of_the_weights_counts() -> None:
    """Powers of two, so that scaling rounds nothing."""
    rows, weights = _cohort(7, 11, seed=3)
    mean = Mean().aggregate(Stack(rows, weights))
    np.testing.assert_array_equal(Mean().aggregate(Stack(rows, weights / np.float32(4096.0))), mean)


def test_a_sum_of_shares_is_handed_on_without_a_copy() -> None:
    vector = np.ones(3, np.float32)
    assert Mean().aggregate(Sum(vector, 1.0)) is vector


def test_the_mean_leaves_its_input_unchanged() -> None:
    rows, weights = _cohort(4, 6, seed=1)
    for received, untouched in zip(_views(rows, weights), _views(rows.copy(), weights.copy()), strict=True):
        Mean().aggregate(received)
        for name, value in vars(received).items():
            np.testing.assert_array_equal(value, getattr(untouched, name), err_msg=name)


@pytest.mark.parametrize(
    "received",
    [Sum(np.zeros(2, np.float32), 0.0), Stack(np.zeros((3, 2), np.float32), np.zeros(3, np.float32))],
)
def test_the_mean_of_nobody_is_refused(received: Received) -> None:
    assert not received.has_weight
    with pytest.raises(ValueError, match="every weight is 0"):
        Mean().aggregate(received)


def test_one_small_weight_is_enough_to_take_part() -> None:
    assert Sum(np.zeros(1, np.float32), 1e-30).has_weight
    assert Stack(np.zeros((2, 1), np.float32), np.array([0.0, 1e-30], np.float32)).has_weight


def test_who_sees_the_stack_sees_the_sum() -> None:
    assert View.STACK >= View.SUM >= Mean.needs
    assert not View.SUM >= View.STACK


def test_the_averaging_server_takes_the_aggregate_as_the_next_model() -> None:
    params, aggregate = np.zeros(3, np.float32), np.array([1.0, 2.0, 3.0], np.float32)
    assert Average().step(params, aggregate, slice(None)) is aggregate
    np.testing.assert_array_equal(params, 0.0)


def test_each_coordinate_is_averaged_by_its_own_weights() -> None:
    """Tables (2, 6, 7) and (4, 10, 9), weighed 1, 0, 0 and 3, 2, 0: means 14/4, 20/2, and nothing."""
    rows = np.array([[2, 1, 0, 0, 0, 0], [12, 3, 20, 2, 0, 0]], np.float32)
    for received in _views(rows, np.ones(2, np.float32)):
        pairs = CoordinateMean().aggregate(received)
        np.testing.assert_array_equal(pairs, [3.5, 2.0, 10.0, 1.0, 0.0, 0.0])
