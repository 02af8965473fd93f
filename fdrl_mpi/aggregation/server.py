"""How the root turns an aggregate into the next model."""

from collections.abc import Callable, Mapping
from typing import Literal, Protocol

import numpy as np

from fdrl_mpi.arrays import FloatVector, State

UpdateKind = Literal["parameters", "difference", "gradient"]
"""What agents hand in: local models, their difference from the global one, or gradients at the global one."""


def _to_aggregate(params: FloatVector, aggregate: FloatVector) -> FloatVector:
    return aggregate - params


def _along_aggregate(params: FloatVector, aggregate: FloatVector) -> FloatVector:
    return aggregate


def _against_aggregate(params: FloatVector, aggregate: FloatVector) -> FloatVector:
    return -aggregate


DIRECTIONS: Mapping[str, Callable[[FloatVector, FloatVector], FloatVector]] = {
    "parameters": _to_aggregate,
    "difference": _along_aggregate,
    "gradient": _against_aggregate,
}
"""In which direction an aggregate says that the model should move."""


RESTORED = "is_restored"
"""Marks the state of a rank that has made no step since it was put back."""


class ServerOptimizer(Protocol):
    """Makes the next global model from the last one and the aggregate of what agents handed in.

    Works coordinate by coordinate, so that every rank may step a slice of the model; one that does not needs
    a collective that shows the aggregate to the root alone.
    """

    is_mean: bool
    """Whether the next model is the aggregate itself, and so as finite as that."""

    def step(self, params: FloatVector, aggregate: FloatVector, columns: slice) -> FloatVector:
        """Return the next model's `columns`; `params` and `aggregate` are those of the last one's."""

    def measure(self) -> Mapping[str, float]:
        """Return what there is to record of the last step, by the names of the record."""

    def get_state(self) -> State:
        """Return "start", where this rank's columns begin, and arrays over them; empty without a state.

        Without "start" the state is whole.
        """

    def set_state(self, state: State) -> None:
        """Go on from arrays over the whole model, or from what `get_state` returned on this rank."""


class _Silent:
    """A server with nothing to record."""

    is_mean = False

    def measure(self) -> Mapping[str, float]:
        """Return nothing."""
        return {}


class Average(_Silent):
    """Move by `lr` times the mean update; with 1 the next model is the mean of the local models (FedAvg)."""

    def __init__(self, kind: UpdateKind = "parameters", lr: float = 1.0) -> None:
        self._direction, self._lr = DIRECTIONS[kind], lr
        self.is_mean = kind == "parameters" and lr == 1.0

    def step(self, params: FloatVector, aggregate: FloatVector, columns: slice) -> FloatVector:
        """Return ``x + lr delta``; for FedAvg `aggregate` itself, without a pass over it."""
        if self.is_mean:
            return aggregate
        return params + np.float32(self._lr) * self._direction(params, aggregate)

    def get_state(self) -> State:
        return {}

    def set_state(self, state: State) -> None:
        """Do nothing: there is no state."""


class _Stateful(_Silent):
    """A server optimiser that remembers vectors; each rank remembers its own columns."""

    names: tuple[str, ...]
    initial: tuple[float, ...]

    def __init__(self, kind: UpdateKind) -> None:
        self._direction = DIRECTIONS[kind]
        self._vectors: dict[str, FloatVector] = {}
        self._restored: State = {}
        self._start = 0

    def step(self, params: FloatVector, aggregate: FloatVector, columns: slice) -> FloatVector:
        """Return the next model's columns."""
        if not self._vectors:
            self._start = columns.start or 0
            for name, value in zip(self.names, self.initial, strict=True):
                whole = self._restored.get(name)
                self._vectors[name] = (
                    np.full(len(params), value, np.float32) if whole is None else whole[columns].copy()
                )
        return params + self._step(self._direction(params, aggregate))

    def get_state(self) -> State:
        """Return this rank's columns; before the first step what was put back."""
        if not self._vectors:
            return {"start": 0, RESTORED: True, **self._restored} if self._restored else {}
        return {"start": self._start, **{name: vector.copy() for name, vector in self._vectors.items()}}

    def set_state(self, state: State) -> None:
        """Go on from vectors over the whole model, or over this rank's columns."""
        vectors = {name: state[name].copy() for name in self.names if name in state}
        is_own = "start" in state and RESTORED not in state
        self._vectors, self._restored = (vectors, {}) if is_own else ({}, vectors)
        self._start = int(state["start"]) if is_own else 0

    def _step(self, delta: FloatVector) -> FloatVector:
        """Return what is added to the model."""
        raise NotImplementedError


class Momentum(_Stateful):
    """FedAvgM: ``m = beta m + delta``, then ``x + lr m``.

    References
    ----------
    Hsu, Qi and Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
    Classification", arXiv 1909.06335, section 4.3.
    """

    names, initial = ("momentum",), (0.0,)

    def __init__(self, kind: UpdateKind, lr: float, beta: float) -> None:
        super().__init__(kind)
        self._lr, self._beta = np.float32(lr), np.float32(beta)

    def _step(self, delta: FloatVector) -> FloatVector:
        momentum = self._vectors["momentum"]
        momentum *= self._beta
        momentum += delta
        return self._lr * momentum


class _Adaptive(_Stateful):
    """``m = beta_1 m + (1 - beta_1) delta``, ``x + lr m / (sqrt(v) + tau)``; the methods differ in v.

    References
    ----------
    Reddi et al., "Adaptive Federated Optimization", ICLR 2021, algorithm 2; v begins at tau^2.
    """

    names = ("momentum", "square")

    def __init__(self, kind: UpdateKind, lr: float, beta_1: float, beta_2: float, tau: float) -> None:
        super().__init__(kind)
        self.initial = (0.0, tau * tau)
        self._lr, self._beta_1, self._tau = np.float32(lr), np.float32(beta_1), np.float32(tau)
        self._beta_2 = np.float32(beta_2)

    def _step(self, delta: FloatVector) -> FloatVector:
        momentum, square = self._vectors["momentum"], self._vectors["square"]
        momentum *= self._beta_1
        momentum += (np.float32(1.0) - self._beta_1) * delta
        self._accumulate(square, delta * delta)
        np.sqrt(square, out=(root := np.empty_like(square)))
        root += self._tau
        return self._lr * momentum / root

    def _accumulate(self, square: FloatVector, new: FloatVector) -> None:
        """Bring v up to date in place with the squares of this round."""
        raise NotImplementedError


class FedAdagrad(_Adaptive):
    """``v = v + delta^2``."""

    def _accumulate(self, square: FloatVector, new: FloatVector) -> None:
        square += new


class FedAdam(_Adaptive):
    """``v = beta_2 v + (1 - beta_2) delta^2``."""

    def _accumulate(self, square: FloatVector, new: FloatVector) -> None:
        square *= self._beta_2
        square += (np.float32(1.0) - self._beta_2) * new


class FedYogi(_Adaptive):
    """``v = v - (1 - beta_2) delta^2 sign(v - delta^2)``."""

    def _accumulate(self, square: FloatVector, new: FloatVector) -> None:
        square -= (np.float32(1.0) - self._beta_2) * new * np.sign(square - new)


class WithControls:
    """A server optimiser for a model that is followed by SCAFFOLD's control variate.

    The model is stepped by `inner`; the control variate moves by the share of agents that take part times
    their mean change (Karimireddy et al., ICML 2020, equation 5).

    The equation's mean is unweighted, so all agents must count alike. The share is that of the cohort a round
    is planned with: agents of it that are left out do not lower it, which moves the control variate a little
    further than the paper until they take part again.
    """

    def __init__(self, inner: ServerOptimizer, num_params: int, participation: float) -> None:
        self._inner, self._num_params, self._participation = inner, num_params, np.float32(participation)
        self.is_mean = False

    def step(self, params: FloatVector, aggregate: FloatVector, columns: slice) -> FloatVector:
        """Return the next model's and control variate's columns."""
        start = columns.start or 0
        cut = min(max(self._num_params - start, 0), len(params))
        model = self._inner.step(params[:cut], aggregate[:cut], slice(start, start + cut))
        control = params[cut:] + self._participation * (aggregate[cut:] - params[cut:])
        return np.concatenate([model, control])

    def measure(self) -> Mapping[str, float]:
        return self._inner.measure()

    def get_state(self) -> State:
        return self._inner.get_state()

    def set_state(self, state: State) -> None:
        self._inner.set_state(state)


def assembled(states: list[State], length: int) -> State:
    """Put the columns of all ranks together: arrays over the whole model.

    Ranks that never step still have what was put back; those that do have the newest.
    """
    whole: State = {}
    for state in sorted(states, key=lambda state: RESTORED not in state):
        if "start" not in state:
            whole |= state
            continue
        for name, part in state.items():
            if name not in ("start", RESTORED):
                vector = whole.setdefault(name, np.zeros(length, np.float32))
                vector[state["start"] : state["start"] + len(part)] = part
    return whole
