"""No exchange at all: the baseline of agents that learn alone."""

from fdrl_mpi.aggregation.views import Sum, View
from fdrl_mpi.arrays import FloatVector
from fdrl_mpi.comm.collective import Traffic


class Isolated:
    """Every rank gets back what it handed in, to the bit.

    Parameters
    ----------
    params : float32 array, shape (d,)
        The model a rank keeps until it hands one in.
    """

    gives = View.SUM
    has_global_model = False

    def __init__(self, params: FloatVector) -> None:
        self.traffic = Traffic()
        self._model = params.copy()

    def encode(self, update: FloatVector, weight: float, total_weight: float) -> None:
        """Keep this rank's own model."""
        if weight > 0.0:
            self._model[:] = update

    def exchange(self) -> Sum:
        """Return this rank's own model."""
        return Sum(self._model, 1.0)

    def publish(self, params: FloatVector) -> FloatVector:
        """Return this rank's own model."""
        return params
