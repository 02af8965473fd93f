"""Optimisers of a flat vector, in numpy."""

from math import sqrt
from typing import TypeAlias

import numpy as np

from fdrl_mpi.arrays import FloatMatrix, FloatVector, State

BETA_1 = 0.9
BETA_2 = 0.999
EPSILON = 1e-5
SMALL_EPSILON = 1e-8
"""That of Kingma and Ba, and of everybody but PPO's implementations."""
SQUARE_DECAY = 0.99
"""Of RMSprop."""


def clip(gradient: FloatVector, max_norm: float) -> float:
    """Scale a gradient down to an L2 norm in place; return its norm before."""
    norm = sqrt(float(np.dot(gradient, gradient)))
    if norm > max_norm:
        gradient *= max_norm / (norm + 1e-6)
    return norm


def adam_passes(
    params: FloatMatrix,
    gradient: FloatMatrix,
    mean: FloatMatrix,
    square: FloatMatrix,
    work: FloatMatrix,
    size: float | FloatMatrix,
    epsilon: float | FloatMatrix,
) -> None:
    """Make one step of `Adam` in place; arrays may have rows, then `size` and `epsilon` are columns."""
    np.multiply(mean, BETA_1, out=mean)
    np.add(mean, gradient, out=mean)
    np.multiply(square, BETA_2, out=square)
    np.multiply(gradient, gradient, out=work)
    np.add(square, work, out=square)
    np.sqrt(square, out=work)
    np.add(work, epsilon, out=work)
    np.divide(mean, work, out=work)
    np.multiply(work, size, out=work)
    np.subtract(params, work, out=params)


def rmsprop_passes(
    params: FloatMatrix,
    gradient: FloatMatrix,
    square: FloatMatrix,
    work: FloatMatrix,
    lr: float,
    epsilon: float,
) -> None:
    """Make one step of `RMSprop` in place."""
    np.multiply(square, SQUARE_DECAY, out=square)
    np.multiply(gradient, gradient, out=work)
    np.multiply(work, 1.0 - SQUARE_DECAY, out=work)
    np.add(square, work, out=square)
    np.sqrt(square, out=work)
    np.add(work, epsilon, out=work)
    np.divide(gradient, work, out=work)
    np.multiply(work, lr, out=work)
    np.subtract(params, work, out=params)


class _OnArrays:
    """What steps numpy arrays."""

    def adopt(self, values: FloatVector) -> FloatVector:
        """Copy a vector to where the parameters are."""
        return values.copy()


class Adam(_OnArrays):
    """Adam (Kingma and Ba, ICLR 2015, algorithm 1) with ten passes over the flat vectors and no temporaries.

    The moments are kept divided by (1 - beta), which saves a pass for each, and the bias corrections and
    the step size become two scalars: with ``c = sqrt((1 - beta_2) / (1 - beta_2^t))`` the step is
    ``lr (1 - beta_1) / ((1 - beta_1^t) c) * m / (sqrt(v) + epsilon / c)``.

    Parameters
    ----------
    params, gradient : float32 arrays, shape (d,)
        Read and changed in place; the gradient is scaled when it is clipped.
    epsilon : float
    """

    def __init__(self, params: FloatVector, gradient: FloatVector, epsilon: float = EPSILON) -> None:
        self.params = params
        self.gradient = gradient
        self._epsilon = epsilon
        self._mean = np.zeros_like(params)
        self._square = np.zeros_like(params)
        self._work = np.empty_like(params)
        self._steps = 0

    def step(self, lr: float, max_gradient_norm: float) -> float:
        """Clip the gradient to an L2 norm, step, and return the norm before clipping."""
        gradient, mean, square, work = self.gradient, self._mean, self._square, self._work
        norm = clip(gradient, max_gradient_norm)
        self._steps += 1
        correction = sqrt((1.0 - BETA_2) / (1.0 - BETA_2**self._steps))
        adam_passes(
            self.params,
            gradient,
            mean,
            square,
            work,
            lr * (1.0 - BETA_1) / ((1.0 - BETA_1**self._steps) * correction),
            self._epsilon / correction,
        )
        return norm

    def get_state(self) -> State:
        """Return sums and step count: the moments over 1 - beta, exactly as they are kept here."""
        return {"sum": self._mean.copy(), "square_sum": self._square.copy(), "steps": self._steps}

    def set_state(self, state: State) -> None:
        """Go on from `get_state`, or from that of the torch engine, which keeps the moments themselves."""
        if "mean" in state:
            np.divide(state["mean"], np.float32(1.0 - BETA_1), out=self._mean)
            np.divide(state["square"], np.float32(1.0 - BETA_2), out=self._square)
        else:
            self._mean[:] = state["sum"]
            self._square[:] = state["square_sum"]
        self._steps = int(state["steps"])


class RMSprop(_OnArrays):
    """RMSprop (Tieleman and Hinton, Coursera lecture 6.5, 2012): ``x -= lr g / (sqrt(v) + epsilon)``."""

    def __init__(self, params: FloatVector, gradient: FloatVector, epsilon: float = EPSILON) -> None:
        self.params = params
        self.gradient = gradient
        self._epsilon = epsilon
        self._square = np.zeros_like(params)
        self._work = np.empty_like(params)

    def step(self, lr: float, max_gradient_norm: float) -> float:
        """Clip the gradient to an L2 norm, step, and return the norm before clipping."""
        gradient, square, work = self.gradient, self._square, self._work
        norm = clip(gradient, max_gradient_norm)
        rmsprop_passes(self.params, gradient, square, work, lr, self._epsilon)
        return norm

    def get_state(self) -> State:
        return {"square": self._square.copy()}

    def set_state(self, state: State) -> None:
        self._square[:] = state["square"]


class SGD(_OnArrays):
    """Steps of ``-lr`` times the gradient."""

    def __init__(self, params: FloatVector, gradient: FloatVector) -> None:
        self.params = params
        self.gradient = gradient
        self._work = np.empty_like(params)

    def step(self, lr: float, max_gradient_norm: float) -> float:
        """Clip the gradient to an L2 norm, step, and return the norm before clipping."""
        norm = clip(self.gradient, max_gradient_norm)
        np.multiply(self.gradient, lr, out=self._work)
        np.subtract(self.params, self._work, out=self.params)
        return norm

    def get_state(self) -> State:
        return {}

    def set_state(self, state: State) -> None:
        """Do nothing: there is no state."""


NumpyOptimiser: TypeAlias = Adam | RMSprop | SGD


def numpy_optimiser(name: str, params: FloatVector, gradient: FloatVector, epsilon: float) -> NumpyOptimiser:
    """Make the optimiser of that name: "adam", "rmsprop" or "sgd"."""
    if name == "sgd":
        return SGD(params, gradient)
    return (Adam if name == "adam" else RMSprop)(params, gradient, epsilon)
