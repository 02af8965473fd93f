"""Every update on the root."""

import numpy as np
from mpi4py import MPI

from fdrl_mpi.aggregation.views import Stack, View
from fdrl_mpi.arrays import FloatVector
from fdrl_mpi.comm.collective import Traffic


class Gather:
    """One `MPI_Gather` of ``[x, w]`` to the root, and one `MPI_Bcast` of the model.

    The root holds (K + 1) (d + 1) values; its own row stays 0.

    Parameters
    ----------
    comm : MPI.Comm
    num_params : int
        Length of a model, d.
    """

    gives = View.STACK
    has_global_model = True

    def __init__(self, comm: MPI.Comm, num_params: int) -> None:
        self.traffic = Traffic()
        self._comm = comm
        self._is_root = comm.Get_rank() == 0
        rows = comm.Get_size() if self._is_root else 1
        self._buffer = np.zeros((rows, num_params + 1), np.float32)
        self._model = np.empty(num_params, np.float32)

    def encode(self, update: FloatVector, weight: float, total_weight: float) -> None:
        """Write ``[update, weight]``, or zeros."""
        if not self._is_root:
            row = self._buffer[0]
            row[:-1] = update if weight > 0.0 else 0.0
            row[-1] = weight

    def exchange(self) -> Stack | None:
        """Return all updates on the root, and None elsewhere."""
        buffer = self._buffer
        if self._is_root:
            self._comm.Gather(MPI.IN_PLACE, buffer)
            self.traffic.received_bytes += buffer[1:].nbytes
            return Stack(buffer[1:, :-1], buffer[1:, -1])
        self._comm.Gather(buffer, None)
        self.traffic.sent_bytes += buffer.nbytes
        return None

    def publish(self, params: FloatVector) -> FloatVector:
        """Send the root's `params` to every rank."""
        model = self._model
        if self._is_root:
            model[:] = params
            self.traffic.sent_bytes += model.nbytes
        else:
            self.traffic.received_bytes += model.nbytes
        self._comm.Bcast(model)
        return model
