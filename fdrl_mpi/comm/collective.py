"""The interface of the ways a model moves."""

from dataclasses import dataclass
from typing import Protocol

from fdrl_mpi.aggregation.views import Received, View
from fdrl_mpi.arrays import FloatVector


@dataclass
class Traffic:
    """Bytes this rank handed to MPI and took from it, counted where they pass.

    Attributes
    ----------
    sent_bytes, received_bytes : int
    """

    sent_bytes: int = 0
    received_bytes: int = 0

    def take(self) -> "Traffic":
        """Return the counts so far and start again at 0."""
        counted = Traffic(self.sent_bytes, self.received_bytes)
        self.sent_bytes = self.received_bytes = 0
        return counted


class Collective(Protocol):
    """Moves updates one way and the model the other; every rank calls all methods, in the same order.

    What travels is the local model itself, scaled by the agent's share of the total weight, which all ranks
    know before they start. The sum is then the next model of FedAvg as it arrives: at a million parameters
    on a busy node, one more pass over it would cost a fifth of the exchange.

    Attributes
    ----------
    gives : View
        What `exchange` lets be seen.
    has_global_model : bool
        Whether all ranks hold the same model after `publish`.
    traffic : Traffic
    """

    gives: View
    has_global_model: bool
    traffic: Traffic

    def encode(self, update: FloatVector, weight: float, total_weight: float) -> None:
        """Write this rank's contribution into the buffer that will travel.

        Parameters
        ----------
        update : float32 array, shape (d,)
            Ignored where `weight` is 0: that is how an absent rank takes part.
        weight, total_weight : float
            Of this rank and of all ranks together; the latter above 0.
        """

    def exchange(self) -> Received | None:
        """Move the contributions; what is returned stays valid until the next `encode`.

        Returns
        -------
        Sum or Stack, or None on a rank that sees nothing
        """

    def publish(self, params: FloatVector) -> FloatVector:
        """Return the next model on every rank, given it on the ranks that received something.

        Valid until the next `encode`.
        """
