"""The interface of an aggregation rule."""

from typing import Protocol

from fdrl_mpi.aggregation.views import Received, View
from fdrl_mpi.arrays import FloatVector


class Aggregator(Protocol):
    """Turns a cohort's updates into one.

    Attributes
    ----------
    needs : View
        What the rule must see.
    min_updates : int
        Smallest cohort for which the rule is defined.
    is_mean : bool
        Whether the aggregate is a mean of the updates, and so as finite as they are.
    """

    needs: View
    min_updates: int
    is_mean: bool

    def aggregate(self, received: Received) -> FloatVector:
        """Return the aggregate, shape (d,); weights must not all be 0."""
