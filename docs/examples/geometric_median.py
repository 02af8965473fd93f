"""The geometric median of updates: fewer than half of the weight cannot carry it away.

References
----------
Pillutla, Kakade and Harchaoui, "Robust Aggregation for Federated Learning", IEEE Transactions on Signal
Processing 70, 2022 (arXiv 1912.13445): RFA, the smoothed Weiszfeld algorithm.
"""

import numpy as np

from fdrl_mpi.aggregation.sums import shares, weighted_sum
from fdrl_mpi.aggregation.views import Stack, View
from fdrl_mpi.arrays import DoubleArray, FloatVector


class GeometricMedian:
    """Find the vector with the least weighted sum of distances to all updates.

    ``argmin_v sum_k a_k |v - x_k|`` with a_k = w_k / sum w, by steps
    ``v <- sum_k b_k x_k / sum_k b_k`` with ``b_k = a_k / max(nu, |v - x_k|)``.

    Every v is a mean of the updates, so inner products are all that the steps need: they are formed of slices
    and added up once. The first v is the update with the least sum of distances to the others: from a mean
    that is far away the steps take long to come back. There, distances count no less than their median, for
    with its own one, 0, no step would ever leave it.

    Parameters
    ----------
    iterations : int
        Steps.
    smoothing : float
        nu.

    Raises
    ------
    ValueError
        If one of them is not positive.

    Notes
    -----
    O(K^2 d) time, a K-th of it on each rank of a node.
    """

    needs = View.STACK
    min_updates = 1

    def __init__(self, iterations: int = 16, smoothing: float = 1e-6) -> None:
        if min(iterations, smoothing) <= 0:
            raise ValueError(f"iterations = {iterations} and smoothing = {smoothing} must be above 0")
        self._iterations, self._smoothing = iterations, smoothing

    def aggregate(self, received: Stack) -> FloatVector:
        """Return the median's coordinates that are here, shape (n,)."""
        gram, present = received.gram(), np.flatnonzero(received.weights)
        weights = self.mixture(gram[np.ix_(present, present)], shares(received.weights[present]))
        return weighted_sum(weights.astype(np.float32), received.rows[present])

    def mixture(self, gram: DoubleArray, shares: FloatVector) -> DoubleArray:
        """Say which mean of the updates the median is, shape (K,).

        Parameters
        ----------
        gram : float64 array, shape (K, K)
            Inner products of the updates.
        shares : float32 array, shape (K,)
            a.
        """
        squares = gram.diagonal()
        between = np.sqrt(np.maximum(squares[:, None] + squares - 2.0 * gram, 0.0))
        first = between[np.argmin(between @ shares)]
        distances = np.maximum(first, np.median(first))
        for _ in range(self._iterations):
            mixture = shares / np.maximum(distances, self._smoothing)
            mixture /= mixture.sum()
            distances = np.sqrt(np.maximum(mixture @ gram @ mixture - 2.0 * gram @ mixture + squares, 0.0))
        return mixture
