"""What an aggregation rule gets to see of a cohort's updates."""

from dataclasses import dataclass
from enum import IntEnum

from fdrl_mpi.arrays import FloatMatrix, FloatVector


class View(IntEnum):
    """How much a collective lets be seen, and how much a rule needs: valid where ``gives >= needs``."""

    SUM = 1
    STACK = 2


@dataclass(frozen=True)
class Sum:
    """The weighted sum of a cohort's updates; single updates are not visible.

    Attributes
    ----------
    vector : float32 array, shape (d,)
        ``sum_k w_k x_k``.
    weight : float
        ``sum_k w_k``; 1 where the weights were shares of a whole that all ranks knew.
    """

    vector: FloatVector
    weight: float

    @property
    def has_weight(self) -> bool:
        """Whether anyone took part."""
        return self.weight > 0.0


@dataclass(frozen=True)
class Stack:
    """Every update of a cohort; an absent agent has weight 0 and a row of zeros.

    Attributes
    ----------
    rows : float32 array, shape (n, d)
        In the order of agent ids.
    weights : float32 array, shape (n,)
    """

    rows: FloatMatrix
    weights: FloatVector

    @property
    def has_weight(self) -> bool:
        """Whether anyone took part."""
        return bool(self.weights.any())


Received = Sum | Stack
