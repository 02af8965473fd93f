"""The sum of all updates on every rank."""

import numpy as np
from mpi4py import MPI

from fdrl_mpi.aggregation.sums import shares, weighted_sum
from fdrl_mpi.aggregation.views import Sum, View
from fdrl_mpi.arrays import DoubleArray, FloatMatrix, FloatVector
from fdrl_mpi.comm.collective import Collective, Models, Traffic
from fdrl_mpi.comm.world import World


class Allreduce(Collective):
    """One in-place `MPI_Allreduce` of the scaled updates; every rank then makes the same model.

    Parameters
    ----------
    world : World
    num_params : int
        Length of a model, d.
    """

    name = "allreduce"
    gives = View.SUM
    has_global_model = True
    hides_updates = False
    is_root_alone = False

    def __init__(self, world: World, num_params: int) -> None:
        self.traffic = Traffic()
        self.rows: FloatMatrix = np.zeros((len(world.agents), num_params), np.float32)
        self._world = world
        self._buffer, self._last = (np.zeros(num_params, np.float32) for _ in range(2))

    def encode(self, models: Models, own_weights: DoubleArray, weights: DoubleArray) -> None:
        """Add up the rows times their agents' shares, not where the last model lies."""
        self._buffer, self._last = self._last, self._buffer
        add_own_rows(self._world, self.rows, weights, out=self._buffer)

    def exchange(self) -> Sum:
        """Return the weighted sum of all updates, on every rank."""
        buffer = self._buffer
        self._world.comm.Allreduce(MPI.IN_PLACE, buffer, MPI.SUM)
        self.traffic.sent(buffer.nbytes)
        self.traffic.received(buffer.nbytes)
        if self._world.leads_node:  # nodes that each form a sum pass 2 (n - 1) vectors on, however they do it
            num_nodes = self._world.num_nodes
            self.traffic.crossed(2 * buffer.nbytes * (num_nodes - 1) // num_nodes)
        return Sum(buffer, 1.0)

    def publish(self, params: FloatVector) -> Models:
        """Return `params`: every rank has made the same model already."""
        return [params] * max(len(self.rows), 1)


def add_own_rows(world: World, rows: FloatMatrix, weights: DoubleArray, out: FloatVector) -> None:
    """Write what a rank's agents contribute to the sum of all agents' shares; zeros if all are absent.

    Parameters
    ----------
    rows : float32 array, shape (A, d)
    weights : float64 array, shape (K,)
    out : float32 array, shape (d,)
    """
    own = shares(weights)[[seat - 1 for seat in world.seats]]
    present = np.flatnonzero(own)
    if len(present) == len(rows) > 0:
        weighted_sum(own, rows, out)
    elif len(present):
        weighted_sum(own[present], rows[present], out)
    else:
        out.fill(0.0)
