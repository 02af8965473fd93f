"""Policy gradients from whole episodes: REINFORCE and GPOMDP, with a choice of baselines.

References
----------
Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement learning", Machine
Learning 8, 1992. Baxter and Bartlett, "Infinite-Horizon Policy-Gradient Estimation", JAIR 15, 2001 (GPOMDP:
a step is credited with what follows it).
"""

from math import log2
from time import perf_counter
from typing import ClassVar

import numpy as np

from fdrl_mpi.arrays import DoubleArray, FloatMatrix, FloatVector, State
from fdrl_mpi.rl.distributions import distribution_of
from fdrl_mpi.rl.episodes import EpisodeBatch, EpisodeSampler, joined
from fdrl_mpi.rl.hyperparameters import ReinforceConfig
from fdrl_mpi.rl.learner import Budget, TrainStats
from fdrl_mpi.rl.model import NetworkFactory, PolicyModel
from fdrl_mpi.rl.network import Head, NetworkShape
from fdrl_mpi.rl.objective import LocalObjective
from fdrl_mpi.rl.on_policy import BLOCK_ROWS, slices
from fdrl_mpi.rl.optimiser import SMALL_EPSILON
from fdrl_mpi.rl.rollout import Environment

EPSILON = 1e-5
"""Added to deviations before a division."""


class Reinforce:
    """One agent's policy gradient; see `Learner` for the interface.

    Each step follows the gradient of `batch_episodes` episodes; the budget is counted in episodes.

    Parameters
    ----------
    settings : ReinforceConfig
    model : PolicyModel
    environment : Environment
        The agent's worlds, each of which plays one episode at a time.
    objective : LocalObjective
    """

    action_kinds: ClassVar[tuple[str, ...]] = ("discrete", "multi_discrete", "box")
    unit: ClassVar[str] = "episodes"
    means: ClassVar[tuple[str, ...]] = ("policy_loss", "value_loss", "entropy", "gradient_norm")

    def __init__(
        self,
        settings: ReinforceConfig,
        model: PolicyModel,
        environment: Environment,
        objective: LocalObjective,
    ) -> None:
        self._settings, self._objective = settings, objective
        self._network, self._distribution = model.network, model.distribution
        self._sampler = EpisodeSampler(environment, model.distribution, settings.horizon)
        self._waves = max(settings.batch_episodes // environment.num_envs, 1)
        self._num_envs = environment.num_envs
        self.params = model.params
        self.restart()

    @staticmethod
    def make_model(
        settings: ReinforceConfig,
        environment: Environment,
        make_network: NetworkFactory,
        generator: np.random.Generator,
        params: FloatVector | None,
    ) -> PolicyModel:
        """Make the policy, with a value where that is the baseline."""
        distribution, network = distribution_of(environment.action_spec), settings.network
        actor = Head("actor", environment.action_spec.size, 0, 0.01)
        critic = Head("critic", 1, 0 if network.shared else 1)
        shape = NetworkShape(
            environment.observation_size,
            (actor, critic) if settings.baseline == "value" else (actor,),
            network.hidden,
            network.activation,
            distribution.num_free,
            network.initialisation,
            network.bounded,
            convolutions=network.convolutions,
            observation_shape=environment.observation_shape,
        )
        return PolicyModel(make_network(shape, generator, params), distribution)

    def train(self, budget: Budget) -> TrainStats:
        """Step along one gradient after another until the budget is spent."""
        stats = TrainStats()
        sums = np.zeros(len(self.means))
        self._network.load()
        for _ in range(budget.work // (self._waves * self._num_envs)):
            self.follow(self.sample(self._waves, budget.generator, stats), budget.lr, sums)
            stats.gradient_steps += 1
        self._network.store()
        stats.means = dict(zip(self.means, (sums / max(stats.gradient_steps, 1)).tolist(), strict=True))
        return stats

    def follow(self, batch: EpisodeBatch, lr: float, sums: DoubleArray) -> None:
        """Step along the gradient of a batch; add its means to `sums`."""
        self.differentiate(batch, sums)
        sums[-1] += self._optimiser.step(lr, self._settings.max_gradient_norm)

    def start(self, generator: np.random.Generator) -> None:
        """See `Member.start`: every batch begins with new episodes."""

    @property
    def stage(self) -> int:
        """See `Member.stage`: nothing here depends on how far the learner has come."""
        return 0

    def restart(self) -> None:
        """Begin with a fresh optimiser; the model stays."""
        optimiser = self._network.optimiser(self._settings.optimiser, SMALL_EPSILON)
        self._optimiser = self._objective.steer(optimiser)

    def get_state(self) -> State:
        """Return model and optimiser: every batch begins with new episodes."""
        return {"params": self.params.copy(), "optimiser": self._optimiser.get_state()}

    def set_state(self, state: State) -> None:
        """Go on from `get_state`."""
        self.params[:] = state["params"]
        self._optimiser.set_state(state["optimiser"])

    def sample(self, waves: int, generator: np.random.Generator, stats: TrainStats) -> EpisodeBatch:
        """Play `waves` episodes in each world, and count them."""
        started = perf_counter()
        batch = joined([self._sampler.sample(self._network, generator) for _ in range(waves)])
        stats.rollout_s += perf_counter() - started
        stats.episodes += batch.finished()
        stats.env_steps += len(batch.rewards)
        return batch

    def credits(self, batch: EpisodeBatch) -> FloatVector:
        """Say how much each step is credited with, before any learnt baseline, shape (n,)."""
        settings = self._settings
        credits = batch.rewards_to_go(settings.gamma)
        if settings.credit == "return":
            starts = np.cumsum(batch.lengths) - batch.lengths
            credits = batch.spread(credits[starts])
        if settings.baseline == "episode":
            credits = batch.whitened(credits, EPSILON)
        elif settings.baseline == "batch":
            deviation = credits.std(ddof=min(len(credits) - 1, 1))
            credits = (credits - credits.mean()) / (deviation + np.float32(EPSILON))
        return credits

    def differentiate(
        self, batch: EpisodeBatch, sums: DoubleArray, importance: FloatVector | None = None
    ) -> None:
        """Fill the network's gradient with that of a batch's loss; add means to `sums`.

        The loss is ``sum_t w_t l_t / n`` with ``l_t = -c_t log pi(a_t | o_t)`` less the entropy bonus, plus
        the value loss and the divergence from the anchor. c is the credit less the baseline, w the
        `importance` of the step, or 1, and n the number of steps, or of episodes.
        """
        credits = self.credits(batch)
        n = len(credits) if self._settings.mean_over == "steps" else len(batch.lengths)
        weights: FloatVector = np.ones_like(credits) if importance is None else importance.astype(np.float32)
        weights = weights / np.float32(n)
        for number, rows in enumerate(slices(len(credits), BLOCK_ROWS)):
            block = batch.observations[rows], batch.actions[rows], credits[rows], weights[rows]
            sums[:3] += self._block_gradient(*block, number > 0)

    def log_probability(self, batch: EpisodeBatch) -> FloatVector:
        """Compute the log-probability of each step under the network as it is, shape (n,)."""
        found: list[FloatVector] = []
        for rows in slices(len(batch.rewards), BLOCK_ROWS):
            count = len(batch.rewards[rows])
            observations, actions = _padded(batch.observations[rows], batch.actions[rows])
            outputs = self._network.forward(observations)[: self._num_outputs]
            self._distribution.evaluate(outputs, self._network.free, actions)
            found.append(self._distribution.log_probability[:count].copy())
        return np.concatenate(found)

    @property
    def _num_outputs(self) -> int:
        return self._network.shape.num_outputs

    def _block_gradient(
        self,
        observations: FloatMatrix,
        actions: FloatMatrix,
        credits: FloatVector,
        weights: FloatVector,
        accumulate: bool,
    ) -> DoubleArray:
        """Differentiate the loss by the outputs of one block; return its part of the first three means.

        `weights` are those of the steps in the mean, shape (rows,).
        """
        settings, network, policy = self._settings, self._network, self._distribution
        acting, count = self._num_outputs, len(credits)
        observations, actions, weight = _padded(observations, actions, weights)
        outputs = network.forward(observations)
        policy.evaluate(outputs[:acting], network.free, actions)
        d_outputs, d_free = np.zeros_like(outputs), np.zeros_like(network.free)
        value_loss = 0.0
        if settings.baseline == "value":
            error = outputs[-1, :count] - credits
            credits = -error
            value_loss = 0.5 * float(np.dot(error * error, weights))
            d_outputs[-1, :count] = error * weights * np.float32(settings.value_coefficient)
        d_log_probability = np.zeros_like(weight)
        np.multiply(credits, -weights, out=d_log_probability[:count])
        d_entropy = -settings.entropy_coefficient * weight
        policy.backward(d_log_probability, d_entropy, d_outputs[:acting], d_free)
        pulled = outputs[:acting], network.free, weight, d_outputs[:acting], d_free
        self._objective.pull(policy, observations, *pulled)
        network.backward(d_outputs, d_free, accumulate)
        loss = float(np.dot(policy.log_probability, d_log_probability))
        return np.array([loss, value_loss, float(np.dot(policy.entropy, weight))])


def _padded(*columns: FloatMatrix) -> tuple[FloatMatrix, ...]:
    """Fill the columns of a block up to a power of two with zeros.

    A network keeps arrays for each number of rows.
    """
    count = len(columns[0])
    rows = 1 << max(int(np.ceil(log2(count))), 5)
    if rows == count:
        return columns
    padded = [np.zeros((rows, *column.shape[1:]), column.dtype) for column in columns]
    for new, column in zip(padded, columns, strict=True):
        new[:count] = column
    return tuple(padded)
