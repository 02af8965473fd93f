"""No exchange at all: the baseline of agents that learn alone."""

import numpy as np

from fdrl_mpi.aggregation.views import View
from fdrl_mpi.arrays import DoubleArray, FloatMatrix, FloatVector
from fdrl_mpi.comm.collective import Collective, Models, Traffic
from fdrl_mpi.comm.world import World


class Isolated(Collective):
    """Every agent gets back what it handed in, to the bit.

    Parameters
    ----------
    world : World
    num_params : int
        Length of a model, d.
    """

    name = "none"
    gives = View.SUM
    has_global_model = False
    hides_updates = False
    is_root_alone = False

    def __init__(self, world: World, num_params: int) -> None:
        self.traffic = Traffic()
        self.rows: FloatMatrix = np.zeros((len(world.agents), num_params), np.float32)
        self._models: FloatMatrix = np.zeros((max(len(world.agents), 1), num_params), np.float32)

    def encode(self, models: Models, own_weights: DoubleArray, weights: DoubleArray) -> None:
        """Keep what an agent has trained; one that was absent keeps what it had."""
        self._models[:] = models
        for number in np.flatnonzero(own_weights):
            self._models[number] = self.rows[number]

    def exchange(self) -> None:
        """Do nothing."""

    def publish(self, params: FloatVector) -> Models:
        """Return each agent's own model."""
        return list(self._models)
