"""The sum of all updates on every rank."""

import numpy as np
from mpi4py import MPI

from fdrl_mpi.aggregation.views import Sum, View
from fdrl_mpi.arrays import FloatVector
from fdrl_mpi.comm.collective import Traffic


class Allreduce:
    """One in-place `MPI_Allreduce` of the scaled updates; every rank then makes the same model.

    Parameters
    ----------
    comm : MPI.Comm
    num_params : int
        Length of a model, d.
    """

    gives = View.SUM
    has_global_model = True

    def __init__(self, comm: MPI.Comm, num_params: int) -> None:
        self.traffic = Traffic()
        self._comm = comm
        self._buffer = np.zeros(num_params, np.float32)

    def encode(self, update: FloatVector, weight: float, total_weight: float) -> None:
        """Write the update times the rank's share, or zeros."""
        if weight > 0.0:
            np.multiply(update, np.float32(weight / total_weight), out=self._buffer)
        else:
            self._buffer.fill(0.0)

    def exchange(self) -> Sum:
        """Return the weighted sum of all updates, on every rank."""
        buffer = self._buffer
        self._comm.Allreduce(MPI.IN_PLACE, buffer, MPI.SUM)
        self.traffic.sent_bytes += buffer.nbytes
        self.traffic.received_bytes += buffer.nbytes
        return Sum(buffer, 1.0)

    def publish(self, params: FloatVector) -> FloatVector:
        """Return `params`: every rank has made the same model already."""
        return params
