"""Proximal policy optimisation, the clipped form; one learner for both engines.

The loss is differentiated by the network's outputs here, in array code; the network does the rest.

References
----------
Schulman et al., "Proximal Policy Optimization Algorithms", arXiv 1707.06347, equations 7 and 9. Huang et al.,
"The 37 Implementation Details of Proximal Policy Optimization", ICLR blog track 2022, for the details.
"""

from math import inf

import numpy as np

from fdrl_mpi.arrays import ActionArray, DoubleArray, FloatMatrix, FloatVector
from fdrl_mpi.rl.distributions import Distribution
from fdrl_mpi.rl.hyperparameters import PPOConfig
from fdrl_mpi.rl.learner import Budget
from fdrl_mpi.rl.model import PolicyModel
from fdrl_mpi.rl.objective import LocalObjective
from fdrl_mpi.rl.on_policy import BLOCK_ROWS, Batch, OnPolicyLearner, normalise, slices
from fdrl_mpi.rl.rollout import Environment

_KL = 3
"""Place of the divergence among the diagnostics."""


class PPO(OnPolicyLearner):
    """One agent's PPO; see `OnPolicyLearner`.

    Parameters
    ----------
    settings : PPOConfig
    """

    diagnostics = ("policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction", "gradient_norm")

    def __init__(
        self, settings: PPOConfig, model: PolicyModel, environment: Environment, objective: LocalObjective
    ) -> None:
        super().__init__(settings, model, environment, objective)
        self._settings = settings
        self._shuffled = self._empty_batch()
        self._minibatches = self._cut_minibatches()

    def _empty_batch(self) -> Batch:
        """Allocate the columns into which each epoch gathers its order."""
        observation_size = self._environment.observation_size
        actions: ActionArray = np.empty(
            (self._samples, *self._distribution.action_shape), self._distribution.action_dtype
        )
        vectors = (np.empty(self._samples, np.float32) for _ in range(4))
        return Batch(np.empty((self._samples, observation_size), np.float32), actions, *vectors)

    def _cut_minibatches(self) -> list[list[Batch]]:
        """Cut the gathered columns into minibatches, each in blocks that fit the cache."""
        size = self._samples // self._settings.num_minibatches
        minibatches = [self._shuffled.rows(rows) for rows in slices(self._samples, size)]
        return [[batch.rows(rows) for rows in slices(size, BLOCK_ROWS)] for batch in minibatches]

    def _update(self, batch: Batch, budget: Budget, sums: DoubleArray) -> int:
        """Make all epochs over one batch and return the number of optimiser steps."""
        settings, steps = self._settings, 0
        for epoch in range(1, settings.num_epochs + 1):
            order = budget.generator.permutation(self._samples)
            for column, gathered in zip(batch.columns(), self._shuffled.columns(), strict=True):
                column.take(order, axis=0, out=gathered, mode="clip")
            measured = settings.target_kl > 0.0 or epoch == settings.num_epochs
            means = np.zeros_like(sums)
            for blocks in self._minibatches:
                means[:-1] += self._gradient(blocks, measured)
                means[-1] += self._optimiser.step(budget.lr, settings.max_gradient_norm)
            means /= len(self._minibatches)
            steps += len(self._minibatches)
            if 0.0 < settings.target_kl < means[_KL]:
                break
        sums += means
        return steps

    def _gradient(self, blocks: list[Batch], measured: bool) -> DoubleArray:
        """Fill the network's flat gradient from one minibatch; return its diagnostics if `measured`."""
        n = sum(len(block.advantage) for block in blocks)
        if self._settings.normalise_advantages:
            normalise([block.advantage for block in blocks], n)
        sums = np.zeros(len(self.diagnostics) - 1)
        for number, block in enumerate(blocks):
            sums += self._block_gradient(block, n, number > 0, measured)
        return sums / n

    def _block_gradient(self, block: Batch, n: int, accumulate: bool, measured: bool) -> DoubleArray | float:
        """Differentiate the mean loss of `n` samples by the outputs of one block of them."""
        settings, policy, network = self._settings, self._distribution, self._network
        outputs = network.forward(block.observations)
        d_outputs, d_free = np.empty_like(outputs), np.empty_like(network.free)
        gain, log_ratio = differentiate(settings, policy, outputs, network.free, block, n, d_outputs, d_free)
        pulled = outputs[:-1], network.free, 1.0 / n, d_outputs[:-1], d_free
        self._objective.pull(policy, block.observations, *pulled)
        network.backward(d_outputs, d_free, accumulate)
        if not measured:
            return 0.0
        return np.array(
            [
                -gain.sum(),
                0.5 * np.square(outputs[-1] - block.target).sum(),
                policy.entropy.sum(),
                (np.expm1(log_ratio) - log_ratio).sum(),
                np.count_nonzero(np.abs(np.expm1(log_ratio)) > settings.clip_range),
            ]
        )


def differentiate(
    settings: PPOConfig,
    policy: Distribution,
    outputs: FloatMatrix,
    free: FloatVector,
    block: Batch,
    n: int,
    d_outputs: FloatMatrix,
    d_free: FloatVector,
) -> tuple[FloatVector, FloatVector]:
    """Write the derivatives of the mean loss of n samples by the outputs for a block of them.

    Parameters
    ----------
    outputs, d_outputs : float32 arrays, shape (size + 1, rows)
        The policy's outputs and the value.

    Returns
    -------
    surrogate, log_ratio : float32 arrays, shape (rows,)
    """
    policy.evaluate(outputs[:-1], free, block.actions)
    log_ratio = policy.log_probability - block.log_probability
    gain, d_log_probability = surrogate(log_ratio, block.advantage, settings.clip_range)
    d_log_probability *= 1.0 / n
    policy.backward(d_log_probability, -settings.entropy_coefficient / n, d_outputs[:-1], d_free)
    value_range = settings.clip_range if settings.clip_value else inf
    error = value_error(outputs[-1], block.value, block.target, value_range)
    np.multiply(error, settings.value_coefficient / n, out=d_outputs[-1])
    return gain, log_ratio


def surrogate(
    log_ratio: FloatVector, advantage: FloatVector, clip_range: float
) -> tuple[FloatVector, FloatVector]:
    """Compute the clipped surrogate of each sample and its loss's derivative by the log-probability.

    With ratio r and advantage A the surrogate is ``min(r A, clip(r, 1 - eps, 1 + eps) A)`` (equation 7);
    the loss is its negative. Where the clipped branch is the smaller one, it is flat: the derivative is 0,
    else ``-r A``.

    Parameters
    ----------
    log_ratio, advantage : float32 arrays, shape (n,)
    clip_range : float
        eps.

    Returns
    -------
    surrogate, d_loss : float32 arrays, shape (n,)
    """
    ratio = np.exp(log_ratio)
    gain = ratio * advantage
    np.maximum(ratio, 1.0 - clip_range, out=ratio)
    np.minimum(ratio, 1.0 + clip_range, out=ratio)
    ratio *= advantage
    free = gain <= ratio
    d_loss = np.multiply(gain, free)
    return np.minimum(gain, ratio, out=ratio), np.negative(d_loss, out=d_loss)


def value_error(
    value: FloatVector, old_value: FloatVector, target: FloatVector, clip_range: float
) -> FloatVector:
    """Differentiate the clipped value loss of each sample by the value.

    The loss is ``max((v - R)^2, (v_old + clip(v - v_old, -eps, eps) - R)^2) / 2``: its derivative is
    ``v - R``, but 0 where the value has left the range around its old value and the clipped error is the
    larger one. An infinite range gives the plain squared error.

    Parameters
    ----------
    value, old_value, target : float32 arrays, shape (n,)
    clip_range : float
        eps, may be infinite.

    References
    ----------
    Huang et al. 2022, detail 9 of the 13 core details.
    """
    error = value - target
    if clip_range == inf:
        return error
    moved = value - old_value
    clipped = np.minimum(np.maximum(moved, -clip_range), clip_range)
    inside = clipped == moved
    clipped += old_value
    clipped -= target
    larger = np.abs(error) > np.abs(clipped)
    error *= inside | larger
    return error
