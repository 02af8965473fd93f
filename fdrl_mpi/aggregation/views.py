"""What an aggregation rule gets to see of a cohort's updates."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from fdrl_mpi.arrays import DoubleArray, FloatMatrix, FloatVector


def _everything() -> slice:
    return slice(None)


class View(IntEnum):
    """How much a collective lets be seen, and how much a rule needs: valid where ``gives >= needs``."""

    SUM = 1
    STACK = 2


@dataclass(frozen=True)
class Sum:
    """The weighted sum of a cohort's updates; single updates are not visible.

    Attributes
    ----------
    vector : float32 array, shape (n,)
        ``sum_k w_k x_k``.
    weight : float
        ``sum_k w_k``; 1 where the weights were shares of a whole that all ranks knew.
    columns : slice
        The coordinates of the model that are here; other ranks hold the others.
    """

    vector: FloatVector
    weight: float
    columns: slice = field(default_factory=_everything)

    @property
    def has_weight(self) -> bool:
        """Whether anyone took part."""
        return self.weight > 0.0


def _as_it_is(partial: DoubleArray) -> DoubleArray:
    return partial


@dataclass(frozen=True)
class Stack:
    """Every update of a cohort, or a slice of every update; an absent agent has weight 0.

    Rules that work coordinate by coordinate need no more than their slice. Rules that need sums over all
    coordinates (norms, distances) form the part of their slice and call `add_up`.

    Attributes
    ----------
    rows : float32 array, shape (K, n)
        In the order of agent ids. What the row of an absent agent holds means nothing, but is finite.
    weights : float32 array, shape (K,)
    columns : slice
        The coordinates of the model that are here.
    add_up : callable
        Adds float64 arrays of the same shape over all the ranks that hold a slice; all of them call it.
    """

    rows: FloatMatrix
    weights: FloatVector
    columns: slice = field(default_factory=_everything)
    add_up: Callable[[DoubleArray], DoubleArray] = _as_it_is

    @property
    def has_weight(self) -> bool:
        """Whether anyone took part."""
        return bool(self.weights.any())

    def gram(self) -> DoubleArray:
        """Compute the inner products of all whole updates, shape (K, K), float64.

        Squared distances are ``g_ii + g_jj - 2 g_ij``.
        """
        rows = self.rows.astype(np.float64)
        return self.add_up(rows @ rows.T)


Received = Sum | Stack
