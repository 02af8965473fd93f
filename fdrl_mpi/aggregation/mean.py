"""The weighted mean."""

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
