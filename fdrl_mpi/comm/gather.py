"""Every update on the root."""

import numpy as np
from mpi4py import MPI

from fdrl_mpi.aggregation.views import Stack, View
from fdrl_mpi.arrays import DoubleArray, FloatMatrix, FloatVector
from fdrl_mpi.comm.collective import Collective, Models, Traffic
from fdrl_mpi.comm.world import World


class Gather(Collective):
    """One `MPI_Gather` of the rows to the root, and one `MPI_Bcast` of the model.

    The root holds K + A rows of d values; its own A rows mean nothing and stay 0. Where some ranks host an
    agent less, they send a row of zeros in its place, and the root copies the others together.

    Parameters
    ----------
    world : World
    num_params : int
        Length of a model, d.
    """

    name = "gather"
    gives = View.STACK
    has_global_model = True
    hides_updates = False
    is_root_alone = True

    def __init__(self, world: World, num_params: int) -> None:
        self.traffic = Traffic()
        self._world = world
        agents_per_rank = world.placement.agents_per_rank
        rows = (world.size if world.is_root else 1) * agents_per_rank
        self._buffer = np.zeros((rows, num_params), np.float32)
        self.rows: FloatMatrix = self._buffer[: len(world.agents)]
        self._updates = self._buffer[agents_per_rank:]
        self._model = np.empty(num_params, np.float32)
        self._weights: DoubleArray = np.zeros(world.num_agents)
        self._num_remote = sum(
            len(world.agents_of(rank)) for rank in range(world.size) if world.is_remote(rank)
        )

    def encode(self, models: Models, own_weights: DoubleArray, weights: DoubleArray) -> None:
        """Put zeros in the place of what absent agents have not trained."""
        self._weights = weights
        self.rows[own_weights == 0.0] = 0.0

    def exchange(self) -> Stack | None:
        """Return all updates on the root, and None elsewhere."""
        if self._world.is_root:
            self._world.comm.Gather(MPI.IN_PLACE, self._buffer)
            self.traffic.received(self._updates.nbytes)
            self.traffic.crossed(self._num_remote * self._updates[0].nbytes)
            return Stack(self._updates_of_agents(), self._weights.astype(np.float32))
        self._world.comm.Gather(self._buffer, None)
        self.traffic.sent(self._buffer.nbytes)
        return None

    def _updates_of_agents(self) -> FloatMatrix:
        """Leave out the rows of seats that do not exist."""
        placement = self._world.placement
        if placement.is_even:
            return self._updates
        rows: FloatMatrix = self._world.of_seats(
            self._updates.reshape(-1, placement.agents_per_rank, len(self._model))
        )
        return rows

    def publish(self, params: FloatVector) -> Models:
        """Send the root's `params` to every rank."""
        model = self._model
        if self._world.is_root:
            model[:] = params
            self.traffic.sent(model.nbytes)
        else:
            self.traffic.received(model.nbytes)
            if self._world.leads_node:
                self.traffic.crossed(model.nbytes)
        self._world.comm.Bcast(model)
        return [model] * max(len(self.rows), 1)
