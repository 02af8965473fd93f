"""Whether a new model may be published: played by the root, and made a second time by another rank."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from hashlib import sha256
from math import sqrt

import numpy as np

from fdrl_mpi.aggregation.aggregator import Aggregator
from fdrl_mpi.aggregation.server import ServerOptimizer
from fdrl_mpi.aggregation.views import Received
from fdrl_mpi.arrays import DoubleArray, FloatVector, State
from fdrl_mpi.federation.evaluation import Evaluation

STANDARD_ERRORS = 3.0
"""What a mean over few episodes may fall by chance."""


class Validation:
    """Refuses a model that is far worse than the last one on the same episodes.

    Parameters
    ----------
    evaluation : Evaluation, optional
        On the root; elsewhere nothing is played.
    most_drop : float
        How far the mean return over the worlds may fall.
    whole : callable
        Makes the model that acts of what is published.
    """

    def __init__(
        self, evaluation: Evaluation | None, most_drop: float, whole: Callable[[FloatVector], FloatVector]
    ) -> None:
        self._evaluation, self._most_drop, self._whole = evaluation, most_drop, whole
        self._played: list[tuple[FloatVector, DoubleArray]] = []

    def __call__(self, base: FloatVector, params: FloatVector, received: Received | None) -> str:
        """Compare the next model with the last one, `base`; say what speaks against it."""
        if self._evaluation is None:
            return ""
        last, next = self._play(base), self._play(params)
        self._played = [(base.copy(), last), (params.copy(), next)]
        drop = last - next
        allowed = max(self._most_drop, STANDARD_ERRORS * drop.std() / sqrt(len(drop)))
        if drop.mean() <= allowed:
            return ""
        return (
            f"the new model was played and is worse: mean return {next.mean():.4g} after {last.mean():.4g}, "
            f"and no more than {allowed:.4g} may be lost (aggregation.validation.most_drop)"
        )

    def _play(self, params: FloatVector) -> DoubleArray:
        """Return the mean return in each world; the two models played last are remembered."""
        assert self._evaluation is not None
        for known, returns in self._played:
            if np.array_equal(known, params):
                return returns
        return self._evaluation.run(self._whole(params)).returns


@dataclass(frozen=True)
class Evidence:
    """What the next model is made of, for a rank that makes it a second time.

    Attributes
    ----------
    aggregator : Aggregator
    server : ServerOptimizer
        As it was before the step.
    base : float32 array, shape (length of the wire,)
        The last model.
    received : Sum or Stack
        Of whole models.
    """

    aggregator: Aggregator
    server: ServerOptimizer
    base: FloatVector
    received: Received

    @classmethod
    def collect(
        cls,
        aggregator: Aggregator,
        server: ServerOptimizer,
        before: State,
        base: FloatVector,
        received: Received,
    ) -> "Evidence":
        """Put together what a step was made of; `before` is the state of `server` before it."""
        server = deepcopy(server)
        server.set_state(before)
        return cls(aggregator, server, base, received)

    def digest(self) -> str:
        """Make the next model; return the digest of it."""
        aggregate = self.aggregator.aggregate(self.received)
        with np.errstate(all="ignore"):
            return digest(self.server.step(self.base, aggregate, self.received.columns))


def digest(params: FloatVector) -> str:
    """Return the SHA-256 of a model, in hexadecimal digits."""
    return sha256(params.tobytes()).hexdigest()
