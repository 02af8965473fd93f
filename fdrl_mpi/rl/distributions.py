"""Action distributions, with the derivatives policy gradients need; outputs are shaped (size, n)."""

from math import log, pi
from typing import Protocol

import numpy as np

from fdrl_mpi.arrays import ActionArray, FloatMatrix, FloatVector
from fdrl_mpi.steps import ActionSpec


class Distribution(Protocol):
    """A family of action distributions; `evaluate` fills the attributes that `backward` uses.

    Attributes
    ----------
    action_dtype : numpy dtype
    action_shape : tuple
        Of one action.
    num_free : int
        Free parameters of the policy.
    log_probability, entropy : float32 arrays, shape (n,)
        Of the last `evaluate`.
    """

    action_dtype: type[np.generic]
    action_shape: tuple[int, ...]
    num_free: int
    log_probability: FloatVector
    entropy: FloatVector

    def noise(self, generator: np.random.Generator, steps: int, n: int) -> FloatMatrix:
        """Draw the noise of a whole rollout, one (size, n) slice a step."""

    def sample(
        self, outputs: FloatMatrix, free: FloatVector, noise: FloatMatrix, actions: ActionArray
    ) -> None:
        """Write the actions that `noise` selects into `actions`; `noise` may be overwritten."""

    def greedy(self, outputs: FloatMatrix) -> ActionArray:
        """Return the most likely actions."""

    def evaluate(self, outputs: FloatMatrix, free: FloatVector, actions: ActionArray) -> None:
        """Compute log-probability and entropy of `actions`."""

    def backward(
        self, d_log_probability: FloatVector, d_entropy: float, d_outputs: FloatMatrix, d_free: FloatVector
    ) -> None:
        """Write the derivatives by outputs and free parameters; `d_entropy` is the same for every sample."""


class Categorical:
    """One of `size` choices, with the outputs as logits."""

    action_dtype: type[np.generic] = np.int64
    action_shape: tuple[int, ...] = ()
    num_free: int = 0

    def __init__(self, size: int) -> None:
        self._choices = np.arange(size)[:, None]
        self.log_probability: FloatVector = np.empty(0, np.float32)
        self.entropy: FloatVector = np.empty(0, np.float32)
        self._work: dict[int, tuple[FloatMatrix, ...]] = {}

    def noise(self, generator: np.random.Generator, steps: int, n: int) -> FloatMatrix:
        """Draw Gumbel noise, for which ``argmax(logits + noise)`` is a sample (Gumbel 1954)."""
        noise = generator.standard_exponential((steps, len(self._choices), n), dtype=np.float32)
        np.maximum(noise, np.finfo(np.float32).tiny, out=noise)  # a draw can be 0
        np.log(noise, out=noise)
        return np.negative(noise, out=noise)

    def sample(
        self, outputs: FloatMatrix, free: FloatVector, noise: FloatMatrix, actions: ActionArray
    ) -> None:
        np.add(outputs, noise, out=noise)
        noise.argmax(axis=0, out=actions)

    def greedy(self, outputs: FloatMatrix) -> ActionArray:
        choices: ActionArray = outputs.argmax(axis=0)
        return choices

    def evaluate(self, outputs: FloatMatrix, free: FloatVector, actions: ActionArray) -> None:
        n = len(actions)
        if n not in self._work:
            rows, columns = (len(self._choices), n), n
            arrays = [np.empty(rows, np.float32) for _ in range(5)]
            self._work[n] = (*arrays, *(np.empty(columns, np.float32) for _ in range(3)))
        self._chosen, self._log, self._probability, work, self._slope, total, log_probability, entropy = (
            self._work[n]
        )
        np.equal(self._choices, actions, out=self._chosen)
        np.maximum.reduce(outputs, axis=0, out=total)
        np.subtract(outputs, total, out=self._log)
        np.exp(self._log, out=self._probability)
        np.add.reduce(self._probability, axis=0, out=total)
        np.divide(self._probability, total, out=self._probability)
        np.log(total, out=total)
        np.subtract(self._log, total, out=self._log)
        np.multiply(self._chosen, self._log, out=work)
        self.log_probability = np.add.reduce(work, axis=0, out=log_probability)
        np.multiply(self._probability, self._log, out=work)
        np.add.reduce(work, axis=0, out=entropy)
        self.entropy = np.negative(entropy, out=entropy)

    def backward(
        self, d_log_probability: FloatVector, d_entropy: float, d_outputs: FloatMatrix, d_free: FloatVector
    ) -> None:
        """``d log p / d logit_j = [j chosen] - p_j`` and ``d H / d logit_j = -p_j (log p_j + H)``."""
        np.subtract(self._chosen, self._probability, out=d_outputs)
        np.multiply(d_outputs, d_log_probability, out=d_outputs)
        if d_entropy != 0.0:
            slope = self._slope
            np.add(self._log, self.entropy, out=slope)
            np.multiply(slope, self._probability, out=slope)
            np.multiply(slope, d_entropy, out=slope)
            np.subtract(d_outputs, slope, out=d_outputs)


class DiagonalGaussian:
    """`size` independent normals: the outputs are the means, the free parameters the log deviations."""

    action_dtype: type[np.generic] = np.float32

    def __init__(self, size: int) -> None:
        self.action_shape: tuple[int, ...] = (size,)
        self.num_free = size
        self.log_probability: FloatVector = np.empty(0, np.float32)
        self.entropy: FloatVector = np.empty(0, np.float32)

    def noise(self, generator: np.random.Generator, steps: int, n: int) -> FloatMatrix:
        return generator.standard_normal((steps, self.num_free, n), dtype=np.float32)

    def sample(
        self, outputs: FloatMatrix, free: FloatVector, noise: FloatMatrix, actions: ActionArray
    ) -> None:
        np.multiply(noise, np.exp(free)[:, None], out=noise)
        np.add(outputs, noise, out=actions.T)

    def greedy(self, outputs: FloatMatrix) -> ActionArray:
        return np.ascontiguousarray(outputs.T)

    def evaluate(self, outputs: FloatMatrix, free: FloatVector, actions: ActionArray) -> None:
        self._deviation = np.exp(free)[:, None]
        self._score = (actions.T - outputs) / self._deviation
        constant = float(free.sum()) + 0.5 * self.num_free * log(2.0 * pi)
        self.log_probability = -0.5 * np.add.reduce(self._score * self._score, axis=0) - np.float32(constant)
        self.entropy = np.full(len(actions), constant + 0.5 * self.num_free, np.float32)

    def backward(
        self, d_log_probability: FloatVector, d_entropy: float, d_outputs: FloatMatrix, d_free: FloatVector
    ) -> None:
        """``d log p / d mean = z / s``, ``d log p / d log s = z^2 - 1`` and ``d H / d log s = 1``."""
        weighted = np.multiply(self._score, d_log_probability)
        np.divide(weighted, self._deviation, out=d_outputs)
        d_free[:] = (weighted * self._score).sum(axis=1) - d_log_probability.sum()
        d_free += d_entropy * len(d_log_probability)


def distribution_of(spec: ActionSpec) -> Distribution:
    """Choose the family for an action space."""
    return Categorical(spec.size) if spec.kind == "discrete" else DiagonalGaussian(spec.size)
