"""Adam on a flat vector, in numpy."""

from math import sqrt

import numpy as np

from fdrl_mpi.arrays import FloatVector, State

BETA_1 = 0.9
BETA_2 = 0.999
EPSILON = 1e-5


class Adam:
    """Adam (Kingma and Ba, ICLR 2015, algorithm 1) with ten passes over the flat vectors and no temporaries.

    The moments are kept divided by (1 - beta), which saves a pass for each, and the bias corrections and
    the step size become two scalars: with ``c = sqrt((1 - beta_2) / (1 - beta_2^t))`` the step is
    ``lr (1 - beta_1) / ((1 - beta_1^t) c) * m / (sqrt(v) + epsilon / c)``.

    Parameters
    ----------
    params, gradient : float32 arrays, shape (d,)
        Read and changed in place; the gradient is scaled when it is clipped.
    """

    def __init__(self, params: FloatVector, gradient: FloatVector) -> None:
        self._params = params
        self._gradient = gradient
        self._mean = np.zeros_like(params)
        self._square = np.zeros_like(params)
        self._work = np.empty_like(params)
        self._steps = 0

    def step(self, lr: float, max_gradient_norm: float) -> float:
        """Clip the gradient to an L2 norm, step, and return the norm before clipping."""
        gradient, mean, square, work = self._gradient, self._mean, self._square, self._work
        norm = sqrt(float(np.dot(gradient, gradient)))
        if norm > max_gradient_norm:
            gradient *= max_gradient_norm / (norm + 1e-6)
        self._steps += 1
        correction = sqrt((1.0 - BETA_2) / (1.0 - BETA_2**self._steps))
        np.multiply(mean, BETA_1, out=mean)
        np.add(mean, gradient, out=mean)
        np.multiply(square, BETA_2, out=square)
        np.multiply(gradient, gradient, out=work)
        np.add(square, work, out=square)
        np.sqrt(square, out=work)
        np.add(work, EPSILON / correction, out=work)
        np.divide(mean, work, out=work)
        np.multiply(work, lr * (1.0 - BETA_1) / ((1.0 - BETA_1**self._steps) * correction), out=work)
        np.subtract(self._params, work, out=self._params)
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
