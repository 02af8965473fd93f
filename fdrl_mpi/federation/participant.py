"""One agent as a round knows it: it takes what was published, learns, and hands in what travels."""

from collections import deque
from math import isfinite, nan, sqrt

import numpy as np

from fdrl_mpi.arrays import FloatVector, State
from fdrl_mpi.federation.wire import Wire
from fdrl_mpi.rl.learner import Budget, Learner, TrainStats, WeighsCoordinates
from fdrl_mpi.rl.objective import LocalObjective

NUM_RECENT = 5
"""Newest training episodes whose mean return can weigh an agent."""


class Participant:
    """A learner, what it keeps for itself, and the row it hands in.

    Parameters
    ----------
    learner : Learner
    objective : LocalObjective
        The one the learner was made with.
    wire : Wire
    row : float32 array, shape (length of the wire,)
        What the collective will take; where the wire is plain, the learner's parameters lie there.
    """

    def __init__(self, learner: Learner, objective: LocalObjective, wire: Wire, row: FloatVector) -> None:
        self.learner, self.row = learner, row
        self._objective, self._wire = objective, wire
        self._before: FloatVector = np.zeros(0, np.float32)
        num_controls = wire.num_shared if wire.company == "controls" else 0
        self._control: FloatVector = np.zeros(num_controls, np.float32)
        self._new_control = self._control
        self._recent: deque[float] = deque(maxlen=NUM_RECENT)
        self._is_in_place = wire.is_plain

    @property
    def recent_return(self) -> float:
        """Mean return of the newest training episodes; 0 before the first."""
        return sum(self._recent) / len(self._recent) if self._recent else 0.0

    def move(self, row: FloatVector) -> None:
        """Hand in elsewhere from now on: in another collective, which takes what lies here too."""
        row[:] = self.row
        self.row, self._is_in_place = row, False

    def train(self, published: FloatVector, budget: Budget) -> TrainStats:
        """Learn from what was published, and write what travels into the row."""
        self.begin(published)
        with np.errstate(over="ignore", invalid="ignore"):  # what diverges is found and named afterwards
            stats = self.learner.train(budget)
        self.finish(published, stats)
        return stats

    def begin(self, published: FloatVector) -> None:
        """Take what was published: the first third of `train`, for a learner that others train."""
        wire, params = self._wire, self.learner.params
        wire.put(wire.parameters(published), params)
        if not wire.is_plain:
            self._before = params.copy()
        self._objective.begin(params, self._correction(published))

    def finish(self, published: FloatVector, stats: TrainStats) -> None:
        """Write what travels into the row, once the learner has trained."""
        if not self._is_in_place:
            with np.errstate(over="ignore", invalid="ignore"):
                self._hand_in(published)
        self._recent.extend(total for total, _ in stats.episodes if isfinite(total))

    def accept(self) -> None:
        """Keep what belongs to an update that counts: the control variate it brought to what is published."""
        self._control = self._new_control

    def update_norm(self, published: FloatVector, stats: TrainStats) -> float:
        """Compute the L2 norm of the update; not finite where it is to be left out."""
        wire = self._wire
        if wire.kind == "parameters":
            norm = distance(wire.shared(self.learner.params), wire.parameters(published))
        else:
            norm = _norm(self.row[: wire.num_shared])
        losses = (stats.means[name] for name in stats.means if name.endswith("loss"))
        everything = (
            norm,
            *losses,
            *(() if wire.is_plain else (_norm(self.learner.params), _norm(self.row))),
        )
        return norm if all(map(isfinite, everything)) else nan

    def withdraw(self, published: FloatVector) -> None:
        """Drop a training that has diverged: go back to where it began, with a fresh optimiser."""
        self.learner.restart()
        if self._wire.is_plain:
            self.learner.params[:] = published
            self.row[:] = published
        else:
            self.learner.params[:] = self._before
            self.row.fill(0.0)

    def model(self, published: FloatVector) -> FloatVector:
        """Make this agent's model: what was published, and what is its own."""
        return self._wire.model(published, self.learner.params)

    def get_state(self) -> State:
        """Return all that `train` depends on besides what is published and the budget."""
        recent = np.array(self._recent)
        return {"learner": self.learner.get_state(), "control": self._control.copy(), "recent": recent}

    def set_state(self, state: State) -> None:
        """Go on from `get_state`."""
        self.learner.set_state(state["learner"])
        self._control = self._new_control = state["control"].copy()
        self._recent = deque(state["recent"].tolist(), NUM_RECENT)

    def _correction(self, published: FloatVector) -> FloatVector | None:
        """Compute what SCAFFOLD adds to every gradient: ``c - c_k``, 0 outside of what is federated."""
        if not self._control.size:
            return None
        correction: FloatVector = np.zeros(self._wire.num_params, np.float32)
        self._wire.put(self._wire.controls(published) - self._control, correction)
        return correction

    def _hand_in(self, published: FloatVector) -> None:
        wire, row = self._wire, self.row
        shared = wire.shared(self.learner.params)
        if wire.kind == "difference":
            shared = shared - wire.parameters(published)
        elif wire.kind == "gradient":
            shared = wire.shared(self._mean_gradient())
        if wire.company == "weights":
            assert isinstance(self.learner, WeighsCoordinates)
            row[1::2] = self.learner.coordinate_weights()
            np.multiply(shared, row[1::2], out=row[0::2])
            return
        row[: wire.num_shared] = shared
        if wire.company == "controls":
            self._renew_control(published)

    def _renew_control(self, published: FloatVector) -> None:
        """Take the mean gradient of the round as control variate, and hand in the global one as it would be.

        With plain gradient steps the mean gradient is option II of SCAFFOLD,
        ``c_k - c + (x - y_k) / (steps lr)``; with other steps it is still a mean of this agent's gradients.
        """
        control = self._wire.shared(self._mean_gradient())
        self.row[self._wire.num_shared :] = self._wire.controls(published) + (control - self._control)
        self._new_control = control

    def _mean_gradient(self) -> FloatVector:
        return self._objective.mean_gradient(self._wire.num_params)


def distance(a: FloatVector, b: FloatVector) -> float:
    """Compute the L2 norm of a difference."""
    with np.errstate(over="ignore", invalid="ignore"):
        return _norm(a - b)


def _norm(vector: FloatVector) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return sqrt(float(np.dot(vector, vector)))
