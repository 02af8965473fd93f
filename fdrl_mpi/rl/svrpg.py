"""Variance-reduced policy gradients: small batches corrected by the gradient of a large one.

References
----------
Papini et al., "Stochastic Variance-Reduced Policy Gradient", ICML 2018, algorithm 2 (SVRPG). Fan et al.,
"Fault-Tolerant Federated Reinforcement Learning with Theoretical Guarantee", NeurIPS 2021, algorithm 1, lines
9 to 15: SCSG's inner loop of geometric length, which there the server makes.
"""

import numpy as np

from fdrl_mpi.arrays import FloatVector
from fdrl_mpi.rl.hyperparameters import SVRPGConfig
from fdrl_mpi.rl.learner import Budget, TrainStats
from fdrl_mpi.rl.model import PolicyModel
from fdrl_mpi.rl.objective import LocalObjective
from fdrl_mpi.rl.reinforce import Reinforce
from fdrl_mpi.rl.rollout import Environment


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
        where the mean of w leaves ``1 +- ratio_range``.

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
            ratio = np.exp(self.log_probability(batch) - own)
            self.differentiate(batch, unused, ratio)
            correction -= network.flat_gradient()
            self.move_to(here)
            self._optimiser.gradient[:] = self._optimiser.adopt(correction)
            norms.append(self._optimiser.step(budget.lr, settings.max_gradient_norm))
            stats.gradient_steps += 1
            network.store()
            if abs(float(ratio.mean()) - 1.0) > settings.ratio_range:
                break
        return sum(norms) / len(norms)

    def _num_inner_steps(self, generator: np.random.Generator) -> int:
        if self._own.inner_steps:
            return self._own.inner_steps
        large = self._waves * self._num_envs
        return int(generator.geometric(self._num_envs / (large + self._num_envs)))

    def move_to(self, params: FloatVector) -> None:
        """Give the network these parameters."""
        self._network.params[:] = params
        self._network.load()
