"""Weighted means."""

import numpy as np

from fdrl_mpi.aggregation.sums import shares, weighted_sum
from fdrl_mpi.aggregation.views import Received, Sum, View
from fdrl_mpi.arrays import FloatVector


class Mean:
    """Average the updates by their weights: FedAvg.

    References
    ----------
    McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
    AISTATS 2017, algorithm 1.
    """

    needs = View.SUM
    min_updates = 1
    is_mean = True

    def aggregate(self, received: Received) -> FloatVector:
        """Return ``sum_k w_k x_k / sum_k w_k``, shape (d,), float32.

        Where the weights add up to 1 the sum is the mean: it is returned as it is, without a pass over it.

        Raises
        ------
        ValueError
            If the total weight is 0.
        """
        if not received.has_weight:
            raise ValueError("the mean of no updates is undefined: every weight is 0")
        if isinstance(received, Sum):
            return (
                received.vector if received.weight == 1.0 else received.vector / np.float32(received.weight)
            )
        return weighted_sum(shares(received.weights), received.rows)


class CoordinateMean:
    """Average each coordinate by weights of its own, which travel inside the sum.

    What agents hand in are pairs ``(w_i x_i, w_i)``, one after another; so is the result, with the mean in
    the place of the product. A coordinate that nobody weighs becomes 0.

    References
    ----------
    Woo, Joshi and Chi, "The Blessing of Heterogeneity in Federated Q-Learning", ICML 2023, equation 13.
    """

    needs = View.SUM
    min_updates = 1
    is_mean = True

    def __init__(self) -> None:
        self._mean = Mean()

    def aggregate(self, received: Received) -> FloatVector:
        """Return pairs ``(sum_k w_ki x_ki / sum_k w_ki, mean of w_ki)``, shape (2 n,), float32."""
        pairs = self._mean.aggregate(received).copy().reshape(-1, 2)
        np.divide(pairs[:, 0], pairs[:, 1], out=pairs[:, 0], where=pairs[:, 1] > 0.0)
        return pairs.ravel()
