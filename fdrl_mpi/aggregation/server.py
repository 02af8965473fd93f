"""How the root turns an aggregate into the next model."""

from typing import Protocol

from fdrl_mpi.arrays import FloatVector


class ServerOptimizer(Protocol):
    """Makes the next global model from the last one and the aggregate of the local models."""

    def step(self, params: FloatVector, aggregate: FloatVector) -> FloatVector:
        """Return the next model, shape (d,)."""


class Average:
    """Take the aggregate itself: the next model is the mean of the local models (FedAvg)."""

    def step(self, params: FloatVector, aggregate: FloatVector) -> FloatVector:
        """Return `aggregate`, without a pass over it."""
        return aggregate
