"""Rules of the user's own."""

from typing import Any

from fdrl_mpi.aggregation.views import Received, Sum, View
from fdrl_mpi.arrays import FloatVector


class OwnRule:
    """Looks at what a rule of the user's own returns, before the next model is made of it.

    Parameters
    ----------
    name : str
        For messages.
    rule : Aggregator
        One that does not say `is_mean` is none.
    """

    def __init__(self, name: str, rule: Any) -> None:
        self._name, self._rule = name, rule
        self.needs: View = rule.needs
        self.min_updates: int = rule.min_updates
        self.is_mean: bool = getattr(rule, "is_mean", False)

    def aggregate(self, received: Received) -> FloatVector:
        """Return what the rule does.

        Raises
        ------
        ValueError
            If that is no float32 vector with as many coordinates as there are here.
        """
        aggregate: FloatVector = self._rule.aggregate(received)
        updates = received.vector if isinstance(received, Sum) else received.rows
        found = getattr(aggregate, "dtype", type(aggregate).__name__), getattr(aggregate, "shape", ())
        if found != (updates.dtype, updates.shape[-1:]):
            raise ValueError(
                f"{self._name}.aggregate returned {found[0]} of shape {found[1]}; needed: {updates.dtype} of "
                f"shape {updates.shape[-1:]}"
            )
        return aggregate
