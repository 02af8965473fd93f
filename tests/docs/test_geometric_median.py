"""The geometric median is an optimum, no minority carries it away, and slices put together are the whole."""

import numpy as np
import pytest
from geometric_median import GeometricMedian

from fdrl_mpi.aggregation.views import Stack

EXACT = GeometricMedian(iterations=1000, smoothing=1e-12)


def stack(rows, weights=None, **more) -> Stack:
    rows = np.asarray(rows, np.float32)
    weights = np.ones(len(rows)) if weights is None else weights
    return Stack(rows, np.asarray(weights, np.float32), **more)


def updates(num_agents: int = 7, length: int = 50) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((num_agents, length)).astype(np.float32)


def test_forces_of_unit_size_towards_the_updates_balance():
    """``sum_k a_k (x_k - v) / |x_k - v| = 0`` where v is no update."""
    rows, weights = updates(), np.arange(1.0, 8.0)
    away = rows - EXACT.aggregate(stack(rows, weights))
    force = (weights / weights.sum()) @ (away / np.linalg.norm(away, axis=1, keepdims=True))
    assert np.linalg.norm(force) < 1e-4


def test_few_steps_come_near_it():
    rows = updates()
    found, exact = (rule.aggregate(stack(rows)) for rule in (GeometricMedian(), EXACT))
    assert np.linalg.norm(found - exact) < 1e-3 * np.linalg.norm(rows, axis=1).mean()


def test_of_one_number_each_it_is_the_median():
    found = EXACT.aggregate(stack([[1.0], [2.0], [7.0], [8.0], [1e6]]))
    np.testing.assert_allclose(found, [7.0], rtol=1e-3)


def test_equal_updates_are_their_median():
    row = updates(1)
    found = GeometricMedian().aggregate(stack(np.repeat(row, 4, axis=0)))
    np.testing.assert_allclose(found, row[0], rtol=1e-6)


def test_it_moves_and_turns_with_the_updates():
    rows = updates(length=3)
    turn, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))
    one = EXACT.aggregate(stack(rows)) @ turn + 2.0
    np.testing.assert_allclose(EXACT.aggregate(stack(rows @ turn + 2.0)), one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("distance", [1e3, 1e10, 1e37])
def test_a_minority_however_far_moves_it_no_more_than_the_bound(distance):
    """The sum of distances from v is not larger than that from any centre z of the honest updates.

    With their largest distance r from z, and the share e of the others, ``(1 - 2 e) |v - z| <= 2 (1 - e) r``.
    """
    rows = updates()
    honest, share = rows[3:].copy(), 3 / 7
    rows[:3] = distance
    centre = EXACT.aggregate(stack(honest))
    radius = np.linalg.norm(honest - centre, axis=1).max()
    found = GeometricMedian().aggregate(stack(rows))
    assert np.linalg.norm(found - centre) <= 2 * (1 - share) / (1 - 2 * share) * radius


def test_what_absent_agents_hold_means_nothing():
    rows = updates()
    weights = np.array([1, 0, 1, 1, 0, 1, 1])
    expected = GeometricMedian().aggregate(stack(rows[weights > 0]))
    rows[weights == 0] = 1e30
    np.testing.assert_allclose(GeometricMedian().aggregate(stack(rows, weights)), expected, rtol=1e-5)


def test_a_weight_counts_like_as_many_equal_updates():
    rows, weights = updates(5), [1, 2, 1, 2, 1]
    repeated = np.repeat(rows, weights, axis=0)
    one = EXACT.aggregate(stack(rows, weights))
    np.testing.assert_allclose(one, EXACT.aggregate(stack(repeated)), rtol=1e-4, atol=1e-5)


def test_slices_put_together_are_the_whole():
    rows = updates(length=10_000)
    cuts = [slice(0, 4096), slice(4096, 8192), slice(8192, 10_000)]
    total = sum(stack(rows[:, cut]).gram() for cut in cuts)
    parts = [
        GeometricMedian().aggregate(stack(rows[:, cut], columns=cut, add_up=lambda _: total)) for cut in cuts
    ]
    np.testing.assert_allclose(
        np.concatenate(parts), GeometricMedian().aggregate(stack(rows)), rtol=1e-6, atol=1e-6
    )


def test_arguments_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="iterations = 0"):
        GeometricMedian(iterations=0)
