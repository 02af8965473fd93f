"""Neighbours mix their models; nobody holds the model of all."""

from collections.abc import Mapping

import numpy as np
from mpi4py import MPI

from fdrl_mpi.aggregation.views import View
from fdrl_mpi.arrays import DoubleArray, FloatMatrix, FloatVector
from fdrl_mpi.comm.collective import Collective, Models, Traffic
from fdrl_mpi.comm.world import World

CHUNK = 2**16
"""Values of a model that are exchanged at once: memory grows with neighbours times this, not times d."""


class Gossip(Collective):
    """``theta_k <- sum_j W_kj theta_j`` by MPI neighbourhood collectives on a distributed graph.

    An agent whose update was left out takes part with the model it had before.

    Parameters
    ----------
    world : World
    num_params : int
        Length of a model, d.
    mixing : float64 array, shape (K, K)
        Doubly stochastic W; agents exchange models where it is not 0.

    References
    ----------
    Lian et al., "Can Decentralized Algorithms Outperform Centralized Algorithms?", NeurIPS 2017, algorithm 1.
    """

    name = "gossip"
    gives = View.SUM
    has_global_model = False
    hides_updates = False
    is_root_alone = False

    def __init__(self, world: World, num_params: int, mixing: DoubleArray) -> None:
        self.traffic = Traffic()
        self.rows: FloatMatrix = np.zeros((len(world.agents), num_params), np.float32)
        self._models: FloatMatrix = np.zeros((max(len(world.agents), 1), num_params), np.float32)
        self._num_agents = world.num_agents
        self._comm = world.comm.Split(MPI.UNDEFINED if world.is_root else 0, world.rank)
        self._sources: list[int] = []
        self._targets: list[int] = []
        self._num_remote = 0
        if world.is_root:
            return
        assert isinstance(self._comm, MPI.Intracomm)
        placement = world.placement
        own = [seat - 1 for seat in world.seats]
        columns = {rank: [seat - 1 for seat in placement.seats_of(rank)] for rank in range(1, world.size)}
        others = [rank for rank in columns if rank != world.rank]
        self._sources = [rank for rank in others if mixing[np.ix_(own, columns[rank])].any()]
        self._targets = [rank for rank in others if mixing[np.ix_(columns[rank], own)].any()]
        self._num_remote = sum(map(world.is_remote, self._sources))
        order = own + [column for rank in self._sources for column in columns[rank]]
        self._weights: FloatMatrix = mixing[np.ix_(own, order)].astype(np.float32)
        self._graph = self._comm.Create_dist_graph_adjacent(
            [rank - 1 for rank in self._sources], [rank - 1 for rank in self._targets]
        )

    def encode(self, models: Models, own_weights: DoubleArray, weights: DoubleArray) -> None:
        """Put the last model in the place of what an agent has not trained."""
        for row, model, weight in zip(self.rows, models, own_weights, strict=False):
            if weight == 0.0:
                row[:] = model

    def exchange(self) -> None:
        """Mix the models of this rank's agents with those of their neighbours."""
        agents, length = self.rows.shape
        for start in range(0, length if agents else 0, CHUNK):
            columns = slice(start, min(start + CHUNK, length))
            width = columns.stop - start
            stack: FloatMatrix = np.empty(((1 + len(self._sources)) * agents, width), np.float32)
            stack[:agents] = self.rows[:, columns]
            self._graph.Neighbor_allgather(stack[:agents], stack[agents:])
            np.matmul(self._weights, stack, out=self._models[:, columns])
            part = 4 * agents * width
            self.traffic.sent(len(self._targets) * part, len(self._targets))
            self.traffic.received(len(self._sources) * part, len(self._sources))
            self.traffic.crossed(self._num_remote * part)

    def publish(self, params: FloatVector) -> Models:
        """Return each agent's own model."""
        return list(self._models)

    def measure(self) -> Mapping[str, DoubleArray]:
        """Measure how far each agent of this rank is from the mean of all models.

        The mean takes an `Allreduce` among the agents, which is not counted as traffic of the run.
        """
        squares = np.zeros(len(self.rows))
        for start in range(0, self.rows.shape[1] if len(self.rows) else 0, CHUNK):
            part = self._models[:, start : start + CHUNK].astype(np.float64)
            mean = part.sum(axis=0)
            self._comm.Allreduce(MPI.IN_PLACE, mean)
            squares += np.square(part - mean / self._num_agents).sum(axis=1)
        return {"distance_to_mean": np.sqrt(squares)}
