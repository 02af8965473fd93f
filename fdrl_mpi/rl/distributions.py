"""Action distributions, with the derivatives policy gradients need; outputs are shaped (size, n)."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import log, pi
from typing import Protocol

import numpy as np

from fdrl_mpi.arrays import ActionArray, FloatMatrix, FloatVector
from fdrl_mpi.steps import ActionSpec

PerSample = float | FloatVector
"""One number for every sample, or an array, shape (n,), with one for each."""


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
        self,
        d_log_probability: FloatVector,
        d_entropy: PerSample,
        d_outputs: FloatMatrix,
        d_free: FloatVector,
    ) -> None:
        """Write the derivatives by outputs and free parameters of a loss, given its own by each sample's."""

    def kl_backward(
        self,
        outputs: FloatMatrix,
        free: FloatVector,
        anchor_outputs: FloatMatrix,
        anchor_free: FloatVector,
        scale: PerSample,
        d_outputs: FloatMatrix,
        d_free: FloatVector,
    ) -> FloatVector:
        """Add the derivatives of the divergence from an anchor policy, and return the divergence.

        Parameters
        ----------
        outputs, free : float32 arrays, shapes (size, n) and (num_free,)
            Of the policy.
        anchor_outputs, anchor_free : float32 arrays, shapes (size, n) and (num_free,)
            Of the policy it is to stay close to, which counts as a constant.
        scale : float, or float32 array, shape (n,)
            Weight of each sample's divergence in the loss.
        d_outputs, d_free : float32 arrays, shapes (size, n) and (num_free,)
            The derivatives of ``sum_i scale_i KL(anchor_i || policy_i)`` by `outputs` and `free` are added.

        Returns
        -------
        float32 array, shape (n,)
            ``KL(anchor || policy)`` of each sample, unscaled, in nats; 0 where they are equal, elsewhere
            rounding may take a tiny one below 0.

        Notes
        -----
        Independent of `evaluate`, whose results stay as they are.

        References
        ----------
        Xie and Song, "FedKL: Tackling Data Heterogeneity in Federated Reinforcement Learning by Penalizing
        KL Divergence", IEEE JSAC 2023: the penalty on leaving the global policy.
        """


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
        _softmax(outputs, self._log, self._probability, total)
        np.multiply(self._chosen, self._log, out=work)
        self.log_probability = np.add.reduce(work, axis=0, out=log_probability)
        np.multiply(self._probability, self._log, out=work)
        np.add.reduce(work, axis=0, out=entropy)
        self.entropy = np.negative(entropy, out=entropy)

    def backward(
        self,
        d_log_probability: FloatVector,
        d_entropy: PerSample,
        d_outputs: FloatMatrix,
        d_free: FloatVector,
    ) -> None:
        """``d log p / d logit_j = [j chosen] - p_j`` and ``d H / d logit_j = -p_j (log p_j + H)``."""
        np.subtract(self._chosen, self._probability, out=d_outputs)
        np.multiply(d_outputs, d_log_probability, out=d_outputs)
        if isinstance(d_entropy, np.ndarray) or d_entropy != 0.0:
            slope = self._slope
            np.add(self._log, self.entropy, out=slope)
            np.multiply(slope, self._probability, out=slope)
            np.multiply(slope, d_entropy, out=slope)
            np.subtract(d_outputs, slope, out=d_outputs)

    def kl_backward(
        self,
        outputs: FloatMatrix,
        free: FloatVector,
        anchor_outputs: FloatMatrix,
        anchor_free: FloatVector,
        scale: PerSample,
        d_outputs: FloatMatrix,
        d_free: FloatVector,
    ) -> FloatVector:
        """``d KL / d logit_j = p_j - q_j`` for the anchor's probabilities q."""
        log_probability, probability, anchor_log, anchor = np.empty((4, *outputs.shape), outputs.dtype)
        divergence: FloatVector = np.empty_like(outputs[0])
        _softmax(outputs, log_probability, probability, divergence)
        _softmax(anchor_outputs, anchor_log, anchor, divergence)
        np.subtract(probability, anchor, out=probability)
        np.multiply(probability, scale, out=probability)
        np.add(d_outputs, probability, out=d_outputs)
        np.subtract(anchor_log, log_probability, out=log_probability)
        np.multiply(anchor, log_probability, out=log_probability)
        np.add.reduce(log_probability, axis=0, out=divergence)
        return divergence


class MultiCategorical:
    """One choice of each of several components, independent of each other.

    The logits of the components lie on top of each other: the outputs have ``sum(sizes)`` rows.
    Log-probability, entropy and divergence are sums over the components.

    Parameters
    ----------
    sizes : sequence of int
        Number of choices of each component.
    """

    action_dtype: type[np.generic] = np.int64
    num_free: int = 0

    def __init__(self, sizes: Sequence[int]) -> None:
        self.action_shape: tuple[int, ...] = (len(sizes),)
        self._whole = Categorical(sum(sizes))
        ends = accumulate(sizes, initial=0)
        rows = [slice(start, end) for start, end in pairwise(ends)]
        self._parts = [(Categorical(size), part_rows) for size, part_rows in zip(sizes, rows, strict=True)]
        self.log_probability: FloatVector = np.empty(0, np.float32)
        self.entropy: FloatVector = np.empty(0, np.float32)

    def noise(self, generator: np.random.Generator, steps: int, n: int) -> FloatMatrix:
        return self._whole.noise(generator, steps, n)

    def sample(
        self, outputs: FloatMatrix, free: FloatVector, noise: FloatMatrix, actions: ActionArray
    ) -> None:
        for (part, rows), choices in zip(self._parts, actions.T, strict=True):
            part.sample(outputs[rows], free, noise[rows], choices)

    def greedy(self, outputs: FloatMatrix) -> ActionArray:
        return np.stack([part.greedy(outputs[rows]) for part, rows in self._parts], axis=1)

    def evaluate(self, outputs: FloatMatrix, free: FloatVector, actions: ActionArray) -> None:
        self.log_probability, self.entropy = np.zeros((2, len(actions)), np.float32)
        for (part, rows), choices in zip(self._parts, actions.T, strict=True):
            part.evaluate(outputs[rows], free, choices)
            self.log_probability += part.log_probability
            self.entropy += part.entropy

    def backward(
        self,
        d_log_probability: FloatVector,
        d_entropy: PerSample,
        d_outputs: FloatMatrix,
        d_free: FloatVector,
    ) -> None:
        for part, rows in self._parts:
            part.backward(d_log_probability, d_entropy, d_outputs[rows], d_free)

    def kl_backward(
        self,
        outputs: FloatMatrix,
        free: FloatVector,
        anchor_outputs: FloatMatrix,
        anchor_free: FloatVector,
        scale: PerSample,
        d_outputs: FloatMatrix,
        d_free: FloatVector,
    ) -> FloatVector:
        divergence = np.zeros(outputs.shape[1], outputs.dtype)
        for part, rows in self._parts:
            divergence += part.kl_backward(
                outputs[rows], free, anchor_outputs[rows], anchor_free, scale, d_outputs[rows], d_free
            )
        return divergence


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
        self,
        d_log_probability: FloatVector,
        d_entropy: PerSample,
        d_outputs: FloatMatrix,
        d_free: FloatVector,
    ) -> None:
        """``d log p / d mean = z / s``, ``d log p / d log s = z^2 - 1`` and ``d H / d log s = 1``."""
        weighted = np.multiply(self._score, d_log_probability)
        np.divide(weighted, self._deviation, out=d_outputs)
        d_free[:] = (weighted * self._score).sum(axis=1) - d_log_probability.sum()
        d_free += _total(d_entropy, len(d_log_probability))

    def kl_backward(
        self,
        outputs: FloatMatrix,
        free: FloatVector,
        anchor_outputs: FloatMatrix,
        anchor_free: FloatVector,
        scale: PerSample,
        d_outputs: FloatMatrix,
        d_free: FloatVector,
    ) -> FloatVector:
        """``d KL / d mean = (m - m_a) / s^2`` and ``d KL / d log s = 1 - (s_a^2 + (m - m_a)^2) / s^2``."""
        deviation = np.exp(free)[:, None]
        score = (outputs - anchor_outputs) / deviation
        square = score * score
        log_ratio = 2.0 * (anchor_free - free)
        excess = np.expm1(log_ratio)  # s_a^2 / s^2 - 1
        d_outputs += scale * (score / deviation)
        d_free -= _total(scale, outputs.shape[1]) * excess + (square * scale).sum(axis=1)
        divergence: FloatVector = 0.5 * (np.add.reduce(square, axis=0) + (excess - log_ratio).sum())
        return divergence


def distribution_of(spec: ActionSpec) -> Distribution:
    """Choose the family for an action space."""
    if spec.kind == "discrete":
        return Categorical(spec.size)
    return MultiCategorical(spec.sizes) if spec.kind == "multi_discrete" else DiagonalGaussian(spec.size)


def _total(values: PerSample, n: int) -> float:
    """Add up a number of each of n samples."""
    return float(values.sum()) if isinstance(values, np.ndarray) else n * values


def _softmax(
    outputs: FloatMatrix, log_probability: FloatMatrix, probability: FloatMatrix, total: FloatVector
) -> None:
    """Write log-probabilities and probabilities of logits, shape (size, n); `total`, (n,), is scratch."""
    np.maximum.reduce(outputs, axis=0, out=total)
    np.subtract(outputs, total, out=log_probability)
    np.exp(log_probability, out=probability)
    np.add.reduce(probability, axis=0, out=total)
    np.divide(probability, total, out=probability)
    np.log(total, out=total)
    np.subtract(log_probability, total, out=log_probability)
