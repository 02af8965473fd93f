"""The interface of the ways a model moves."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Protocol

from fdrl_mpi.aggregation.views import Received, View
from fdrl_mpi.arrays import DoubleArray, FloatMatrix, FloatVector

Models = Sequence[FloatVector]
"""The models a rank holds: one for each of its agents, on the root one. Where all are the same model, each
entry is the same array."""


@dataclass
class Traffic:
    """What this rank sent and took, counted where it passes.

    Messages are those this program sends; what MPI makes of one of its collective calls counts as one.
    Shared memory counts as if its bytes had been sent: a row that others read, a model that is read.

    Attributes
    ----------
    crossing_bytes : int
        Those received that came from another host. Of MPI's own collective calls, which choose their way
        themselves, the least that must cross, each value once for each host that lacks it: counted by the
        first rank of each host.
    """

    sent_bytes: int = 0
    received_bytes: int = 0
    sent_messages: int = 0
    received_messages: int = 0
    crossing_bytes: int = 0

    def sent(self, num_bytes: int, messages: int = 1) -> None:
        """Count what was sent."""
        self.sent_bytes += num_bytes
        self.sent_messages += messages

    def received(self, num_bytes: int, messages: int = 1, is_remote: bool = False) -> None:
        """Count what was taken, and whether it came from another host."""
        self.received_bytes += num_bytes
        self.received_messages += messages
        self.crossing_bytes += num_bytes * is_remote

    def crossed(self, num_bytes: int) -> None:
        """Count what came from another host on a way of MPI's."""
        self.crossing_bytes += num_bytes

    def take(self) -> "Traffic":
        """Return the counts so far and start again at 0."""
        counted = Traffic(*astuple(self))
        for field in fields(self):
            setattr(self, field.name, 0)
        return counted


class Collective(Protocol):
    """Moves updates one way and the model the other; every rank calls all methods, in the same order.

    Local models lie in `rows`, which the collective owns, so that handing one in costs no copy. Before
    `encode` all ranks have met: every row is complete, and every rank knows the weights. That is why a sum
    can be formed of shares that add up to 1, and is the next model of FedAvg as it arrives: at a million
    parameters on a busy node, one more pass over it would cost a fifth of the exchange.

    Attributes
    ----------
    name : str
        For the record.
    gives : View
        What `exchange` lets be seen.
    has_global_model : bool
        Whether all ranks hold the same model after `publish`.
    hides_updates : bool
        Whether nobody may learn an agent's weight, or anything else about its update.
    is_root_alone : bool
        Whether `exchange` shows something to the root only.
    has_revealed : bool
        Whether this rank has shown a mask in an exchange that has not ended: it must not be done again.
    rows : float32 array, shape (A, d)
        Where the models of this rank's agents are trained; no row on the root. Written by their agents,
        outside of `encode` .. `publish`.
    traffic : Traffic
    """

    name: str
    gives: View
    has_global_model: bool
    hides_updates: bool
    is_root_alone: bool
    has_revealed: bool = False
    rows: FloatMatrix
    traffic: Traffic

    def encode(self, models: Models, own_weights: DoubleArray, weights: DoubleArray) -> None:
        """Make this rank's contribution ready to travel.

        Parameters
        ----------
        models : sequence of float32 arrays, shape (d,)
            What this rank held before its agents trained.
        own_weights : float64 array, shape (A,)
            Of this rank's agents. Where one is 0 the agent is absent, and its row is ignored.
        weights : float64 array, shape (K,)
            Of all agents, not all 0; where the collective hides them, 1 for those that take part.
        """

    def exchange(self) -> Received | None:
        """Move the contributions; what is returned stays valid until the next `encode`.

        Returns
        -------
        Sum or Stack, or None on a rank that sees nothing
        """

    def publish(self, params: FloatVector) -> Models:
        """Return the next models on every rank.

        Parameters
        ----------
        params : float32 array
            On ranks that received something, what was made of it: the same coordinates of the next model.

        Returns
        -------
        sequence of float32 arrays, shape (d,)
            Valid until the next `publish`. The very sequence that `encode` took where the exchange was given
            up, so that no update counts.
        """

    def measure(self) -> Mapping[str, DoubleArray]:
        """Measure what there is to tell of the last exchange, outside of its time; every rank calls it.

        Returns
        -------
        mapping of float64 arrays, shape (A,)
            For this rank's agents, by variable of the record.
        """
        return {}
