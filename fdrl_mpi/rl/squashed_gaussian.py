"""A diagonal Gaussian squashed into -1..1 by tanh, with the derivatives of its samples.

References
----------
Haarnoja et al., "Soft Actor-Critic Algorithms and Applications", arXiv 1812.05905, appendix C.
"""

from math import log, pi

import numpy as np

from fdrl_mpi.arrays import FloatMatrix, FloatVector

LOG_DEVIATION_LOW, LOG_DEVIATION_HIGH = -5.0, 2.0
_HALF_RANGE = 0.5 * (LOG_DEVIATION_HIGH - LOG_DEVIATION_LOW)


class SquashedGaussian:
    """Samples of n policies, as functions of a network's outputs, shape (2 * size, n).

    The first `size` rows are means m, the others raw deviations r: ``log s = -5 + 3.5 (tanh r + 1)``. With
    normal noise z the sample is ``a = tanh u``, ``u = m + s z``.

    Parameters
    ----------
    size : int
        Numbers of an action.
    n : int
        Samples drawn together.

    Attributes
    ----------
    actions : float32 array, shape (size, n)
        In -1..1; written by `sample`.
    log_probability : float32 array, shape (n,)
        Log-density of `actions` in -1..1; written by `evaluate`.
    """

    def __init__(self, size: int, n: int) -> None:
        self._size = size
        self.actions: FloatMatrix = np.empty((size, n), np.float32)
        self.log_probability: FloatVector = np.empty(n, np.float32)
        self._noise: FloatMatrix = np.empty((size, n), np.float32)
        self._squashed, self._log_deviation, self._spread, self._sample, self._work, self._other = np.empty(
            (6, size, n), np.float32
        )

    def sample(self, outputs: FloatMatrix, noise: FloatMatrix) -> FloatMatrix:
        """Draw the actions that `noise`, shape (size, n), selects."""
        self._noise = noise
        np.tanh(outputs[self._size :], out=self._squashed)
        np.multiply(self._squashed, _HALF_RANGE, out=self._log_deviation)
        np.add(self._log_deviation, LOG_DEVIATION_LOW + _HALF_RANGE, out=self._log_deviation)
        np.exp(self._log_deviation, out=self._spread)
        np.multiply(self._spread, noise, out=self._spread)
        np.add(outputs[: self._size], self._spread, out=self._sample)
        return np.tanh(self._sample, out=self.actions)

    def evaluate(self) -> FloatVector:
        """Compute the log-density of the last sample.

        ``log p = sum(-z^2 / 2 - log s - log(2 pi) / 2 - log(1 - a^2))``; the last logarithm is
        ``2 (log 2 - |u| - log(1 + exp(-2 |u|)))``, which is finite for every u.
        """
        work, other = self._work, self._other
        np.abs(self._sample, out=work)
        np.multiply(work, -2.0, out=other)
        np.exp(other, out=other)
        np.log1p(other, out=other)
        np.add(work, other, out=work)
        np.multiply(work, 2.0, out=work)
        np.subtract(work, self._log_deviation, out=work)
        np.multiply(self._noise, self._noise, out=other)
        np.multiply(other, 0.5, out=other)
        np.subtract(work, other, out=work)
        np.add.reduce(work, axis=0, out=self.log_probability)
        constant = self._size * (2.0 * log(2.0) + 0.5 * log(2.0 * pi))
        return np.subtract(self.log_probability, constant, out=self.log_probability)

    def backward(self, d_actions: FloatMatrix, d_log_probability: float, d_outputs: FloatMatrix) -> None:
        """Differentiate a loss by the outputs, through the last sample with its noise held.

        ``d log p / d u = 2 a`` and ``d log p / d log s = 2 a s z - 1``.

        Parameters
        ----------
        d_actions : float32 array, shape (size, n)
            Of the loss by `actions`.
        d_log_probability : float
            Of the loss by the log-density of each sample, the same for all.
        d_outputs : float32 array, shape (2 * size, n)
            Where the derivative is written.
        """
        work, d_mean, d_raw = self._work, d_outputs[: self._size], d_outputs[self._size :]
        np.multiply(self.actions, self.actions, out=work)
        np.subtract(1.0, work, out=work)
        np.multiply(d_actions, work, out=d_mean)
        np.multiply(self.actions, 2.0 * d_log_probability, out=work)
        np.add(d_mean, work, out=d_mean)
        np.multiply(d_mean, self._spread, out=d_raw)
        np.subtract(d_raw, d_log_probability, out=d_raw)
        np.multiply(self._squashed, self._squashed, out=work)
        np.subtract(1.0, work, out=work)
        np.multiply(work, _HALF_RANGE, out=work)
        np.multiply(d_raw, work, out=d_raw)
