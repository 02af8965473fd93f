"""Variance-reduced policy gradients: small batches corrected by the gradient of a large one.

References
----------
Papini et al., "Stochastic Variance-Reduced Policy Gradient", ICML 2018, algorithm 2 (SVRPG). Fan et al.,
"Fault-Tolerant Federated Reinforcement Learning with Theoretical Guarantee", NeurIPS 2021, algorithm 1, lines
9 to 15: SCSG's inner loop of geometric length, which there the server makes.
"""

from math import sqrt

import numpy as np

from fdrl_mpi.arrays import FloatVector
from fdrl_mpi.rl.episodes import EpisodeBatch
from fdrl_mpi.rl.hyperparameters import SVRPGConfig
from fdrl_mpi.rl.learner import Budget, TrainStats
from fdrl_mpi.rl.model import PolicyModel
from fdrl_mpi.rl.objective import LocalObjective
from fdrl_mpi.rl.reinforce import Reinforce
from fdrl_mpi.rl.rollout import Environment

LARGEST_LOG_WEIGHT = 40.0
"""Logarithm of an episode's weight beyond which float32 gradients could overflow."""


class SVRPG(Reinforce):
    """One agent's variance-reduced policy gradient; see `Reinforce`.

    Parameters
    ----------
    settings : SVRPGConfig
    """

    def __init__(
        self,
        settings: SVRPGConfig,
        model: PolicyModel,
        environment: Environment,
        objective: LocalObjective,
    ) -> None:
        super().__init__(settings, model, environment, objective)
        self._own = settings

    def train(self, budget: Budget) -> TrainStats:
        """Take a large batch and make the inner loop it allows, until the budget is spent."""
        stats = TrainStats()
        sums = np.zeros(len(self.means))
        self._network.load()
        num_batches = budget.work // (self._waves * self._num_envs)
        for _ in range(num_batches):
            self.differentiate(self.sample(self._waves, budget.generator, stats), sums)
            sums[-1] += self.descend(self._network.flat_gradient(), budget, stats)
        self._network.store()
        stats.means = dict(zip(self.means, (sums / max(num_batches, 1)).tolist(), strict=True))
        return stats

    def descend(self, mean_gradient: FloatVector, budget: Budget, stats: TrainStats) -> float:
        """Make the inner loop from where the network is; return the mean norm of what it followed.

        Each step follows ``g(x; tau) - w g(x_0; tau) + mu``, tau being new episodes of policy x, w their
        importance under the policy of x_0, and mu the large batch's gradient at x_0. The loop ends early
        where w leaves 1 too far: see `importance`.

        Parameters
        ----------
        mean_gradient : float32 array, shape (d,)
            mu.
        """
        network, settings, unused = self._network, self._own, np.zeros(len(self.means))
        norms: list[float] = []
        network.store()
        start = network.params.copy()
        for _ in range(self._num_inner_steps(budget.generator)):
            batch = self.sample(1, budget.generator, stats)
            here = network.params.copy()
            own = self.log_probability(batch)
            self.differentiate(batch, unused)
            correction = mean_gradient + network.flat_gradient()
            self.move_to(start)
            weights, distance = self.importance(batch, self.log_probability(batch) - own)
            is_far = distance > settings.ratio_range
            if is_far and settings.importance == "trajectory":
                self.move_to(here)
                break
            self.differentiate(batch, unused, weights)
            correction -= network.flat_gradient()
            self.move_to(here)
            self._optimiser.gradient[:] = self._optimiser.adopt(correction)
            norms.append(self._optimiser.step(budget.lr, settings.max_gradient_norm))
            stats.gradient_steps += 1
            network.store()
            if is_far:
                break
        return sum(norms) / len(norms)

    def importance(self, batch: EpisodeBatch, log_ratio: FloatVector) -> tuple[FloatVector, float]:
        """Weigh each step of episodes of policy x for the policy of x_0; say how far from 1 the weights are.

        By "trajectory" every step of an episode has the weight ``prod_t pi_0(a_t|o_t) / pi_x(a_t|o_t)`` of
        Papini et al., algorithm 2: the expectation of ``w g(x_0; tau)`` over episodes of policy x is that of
        ``g(x_0; tau)`` over episodes of policy x_0. Where gradients are means over steps, weights are divided
        by their mean over steps, as there would be other lengths under x_0 too. The distance is the root mean
        square of ``w - 1``, which estimates the weights' deviation: it grows as x leaves x_0, and the loop
        ends before a step is taken with weights beyond `ratio_range`.

        By "step", as in the program of Fan et al., each step has its own ratio alone. That is biased wherever
        x is not x_0: what leads to the step, and what it is credited with, stay those of policy x. The
        distance is that of the mean ratio from 1. A ratio's expectation is 1 in every state, whatever the two
        policies, so this measures sampling noise; the loop ends behind the step that is beyond.

        Parameters
        ----------
        log_ratio : float32 array, shape (n,)
            ``log pi_0(a_t|o_t) - log pi_x(a_t|o_t)`` of each step.

        Returns
        -------
        weights : float32 array, shape (n,)
        distance : float
        """
        if self._own.importance == "step":
            ratio: FloatVector = np.exp(log_ratio)
            return ratio, abs(float(ratio.mean()) - 1.0)
        weights = np.exp(np.minimum(batch.totals(log_ratio), LARGEST_LOG_WEIGHT))
        distance = sqrt(float(np.mean((weights - 1.0) ** 2)))
        if self._own.mean_over == "steps":
            weights = weights * (batch.lengths.sum() / (weights @ batch.lengths))
        return batch.spread(weights), distance

    def _num_inner_steps(self, generator: np.random.Generator) -> int:
        if self._own.inner_steps:
            return self._own.inner_steps
        large = self._waves * self._num_envs
        return int(generator.geometric(self._num_envs / (large + self._num_envs)))

    def move_to(self, params: FloatVector) -> None:
        """Give the network these parameters."""
        self._network.params[:] = params
        self._network.load()
