"""Optimisers of A flat vectors that lie below each other; each row steps as if it were alone.

The passes are those of `optimiser`, over a few rows at a time: what one pass has written, the next one finds
in the cache.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import sqrt

import numpy as np

from fdrl_mpi.arrays import DoubleArray, FloatMatrix, State
from fdrl_mpi.rl.optimiser import BETA_1, BETA_2, adam_passes, rmsprop_passes

PASS_VALUES = 1 << 15
"""Values of one pass: four such arrays fit a core's second-level cache."""


class StackOptimiser(ABC):
    """Steps the rows of `params` along those of `gradient`.

    Parameters
    ----------
    params, gradient : float32 arrays, shape (A, d)
        Read and changed in place; gradients are scaled when they are clipped.
    epsilon : float
    """

    def __init__(self, params: FloatMatrix, gradient: FloatMatrix, epsilon: float) -> None:
        self.params, self.gradient, self._epsilon = params, gradient, epsilon
        self._rows_at_once = max(1, PASS_VALUES // params.shape[1])
        self._work = np.empty((self._rows_at_once, params.shape[1]), np.float32)

    def step(self, members: slice, lr: float, max_gradient_norm: float) -> DoubleArray:
        """Clip each gradient to an L2 norm, step, and return the norms before, of these rows."""
        start, stop, _ = members.indices(len(self.params))
        norms = np.empty(stop - start)
        for first in range(start, stop, self._rows_at_once):
            rows = slice(first, min(first + self._rows_at_once, stop))
            norms[rows.start - start : rows.stop - start] = self._clip(rows, max_gradient_norm)
            self._step(rows, lr, self._work[: rows.stop - rows.start])
        return norms

    def _clip(self, rows: slice, max_norm: float) -> DoubleArray:
        gradient = self.gradient[rows]
        norms: DoubleArray = np.sqrt(np.vecdot(gradient, gradient).astype(np.float64))
        for row in (norms > max_norm).nonzero()[0].tolist():
            gradient[row] *= max_norm / (float(norms[row]) + 1e-6)
        return norms

    @abstractmethod
    def _step(self, rows: slice, lr: float, work: FloatMatrix) -> None:
        """Step some rows."""

    @abstractmethod
    def get_states(self) -> list[State]:
        """Return the state of each row, as the optimiser of one vector returns it."""

    @abstractmethod
    def set_states(self, states: Sequence[State]) -> None:
        """Go on from one state for each row."""


class StackAdam(StackOptimiser):
    """`Adam` in every row; rows may have made different numbers of steps."""

    def __init__(self, params: FloatMatrix, gradient: FloatMatrix, epsilon: float) -> None:
        super().__init__(params, gradient, epsilon)
        self._mean, self._square = np.zeros_like(params), np.zeros_like(params)
        self._steps = [0] * len(params)

    def _step(self, rows: slice, lr: float, work: FloatMatrix) -> None:
        gradient, mean, square = self.gradient[rows], self._mean[rows], self._square[rows]
        self._steps[rows] = steps = [step + 1 for step in self._steps[rows]]
        corrections = [sqrt((1.0 - BETA_2) / (1.0 - BETA_2**step)) for step in steps]
        epsilons = [self._epsilon / correction for correction in corrections]
        sizes = [
            lr * (1.0 - BETA_1) / ((1.0 - BETA_1**step) * correction)
            for step, correction in zip(steps, corrections, strict=True)
        ]
        adam_passes(self.params[rows], gradient, mean, square, work, _column(sizes), _column(epsilons))

    def get_states(self) -> list[State]:
        rows = zip(self._mean, self._square, self._steps, strict=True)
        return [
            {"sum": mean.copy(), "square_sum": square.copy(), "steps": steps} for mean, square, steps in rows
        ]

    def set_states(self, states: Sequence[State]) -> None:
        for row, state in enumerate(states):
            self._mean[row], self._square[row] = state["sum"], state["square_sum"]
            self._steps[row] = int(state["steps"])


class StackRMSprop(StackOptimiser):
    """`RMSprop` in every row."""

    def __init__(self, params: FloatMatrix, gradient: FloatMatrix, epsilon: float) -> None:
        super().__init__(params, gradient, epsilon)
        self._square = np.zeros_like(params)

    def _step(self, rows: slice, lr: float, work: FloatMatrix) -> None:
        rmsprop_passes(self.params[rows], self.gradient[rows], self._square[rows], work, lr, self._epsilon)

    def get_states(self) -> list[State]:
        return [{"square": square.copy()} for square in self._square]

    def set_states(self, states: Sequence[State]) -> None:
        for row, state in zip(self._square, states, strict=True):
            row[:] = state["square"]


class StackSGD(StackOptimiser):
    """`SGD` in every row."""

    def _step(self, rows: slice, lr: float, work: FloatMatrix) -> None:
        np.multiply(self.gradient[rows], lr, out=work)
        np.subtract(self.params[rows], work, out=self.params[rows])

    def get_states(self) -> list[State]:
        return [{} for _ in self.params]

    def set_states(self, states: Sequence[State]) -> None:
        """Do nothing: there is no state."""


OPTIMISERS: dict[str, type[StackAdam | StackRMSprop | StackSGD]] = {
    "adam": StackAdam,
    "rmsprop": StackRMSprop,
    "sgd": StackSGD,
}


def stack_optimiser(name: str, params: FloatMatrix, gradient: FloatMatrix, epsilon: float) -> StackOptimiser:
    """Make the optimiser of that name: "adam", "rmsprop" or "sgd"."""
    return OPTIMISERS[name](params, gradient, epsilon)


def _column(values: Sequence[float]) -> FloatMatrix:
    return np.array(values, np.float32)[:, None]
