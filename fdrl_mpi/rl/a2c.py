"""Advantage actor-critic: one step along the policy gradient of each rollout.

References
----------
Mnih et al., "Asynchronous Methods for Deep Reinforcement Learning", ICML 2016, section 4 and algorithm S3;
synchronous, as in OpenAI's A2C.
"""

import numpy as np

from fdrl_mpi.arrays import DoubleArray, FloatMatrix, FloatVector
from fdrl_mpi.rl.distributions import Distribution
from fdrl_mpi.rl.hyperparameters import OnPolicyConfig
from fdrl_mpi.rl.learner import Budget
from fdrl_mpi.rl.on_policy import BLOCK_ROWS, Batch, OnPolicyLearner, normalise, slices


class A2C(OnPolicyLearner):
    """One agent's A2C; see `OnPolicyLearner`.

    The loss is the mean of ``-A log pi(a | o) - c_H H(pi) + c_V (v - R)^2 / 2``.
    """

    diagnostics = ("policy_loss", "value_loss", "entropy", "gradient_norm")

    def _update(self, batch: Batch, budget: Budget, sums: DoubleArray) -> int:
        """Make one step along the gradient of the whole batch."""
        if self._on_policy.normalise_advantages:
            normalise([batch.advantage], self._samples)
        for number, rows in enumerate(slices(self._samples, BLOCK_ROWS)):
            sums[:-1] += self._block_gradient(batch.rows(rows), number > 0) / self._samples
        sums[-1] += self._optimiser.step(budget.lr, self._on_policy.max_gradient_norm)
        return 1

    def _block_gradient(self, block: Batch, accumulate: bool) -> DoubleArray:
        """Differentiate the mean loss by the outputs of one block of the samples."""
        settings, policy, network, n = self._on_policy, self._distribution, self._network, self._samples
        outputs = network.forward(block.observations)
        d_outputs, d_free = np.empty_like(outputs), np.empty_like(network.free)
        error = differentiate(settings, policy, outputs, network.free, block, n, d_outputs, d_free)
        pulled = outputs[:-1], network.free, 1.0 / n, d_outputs[:-1], d_free
        self._objective.pull(policy, block.observations, *pulled)
        network.backward(d_outputs, d_free, accumulate)
        gain = float(np.dot(block.advantage, policy.log_probability))
        return np.array([-gain, 0.5 * float(np.dot(error, error)), float(policy.entropy.sum())])


def differentiate(
    settings: OnPolicyConfig,
    policy: Distribution,
    outputs: FloatMatrix,
    free: FloatVector,
    block: Batch,
    n: int,
    d_outputs: FloatMatrix,
    d_free: FloatVector,
) -> FloatVector:
    """Write the derivatives of the mean loss of n samples by the outputs for a block of them.

    Parameters
    ----------
    outputs, d_outputs : float32 arrays, shape (size + 1, rows)
        The policy's outputs and the value.

    Returns
    -------
    float32 array, shape (rows,)
        Errors of the value.
    """
    policy.evaluate(outputs[:-1], free, block.actions)
    policy.backward(
        block.advantage * np.float32(-1.0 / n), -settings.entropy_coefficient / n, d_outputs[:-1], d_free
    )
    error: FloatVector = outputs[-1] - block.target
    np.multiply(error, settings.value_coefficient / n, out=d_outputs[-1])
    return error
