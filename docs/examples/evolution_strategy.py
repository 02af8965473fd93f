"""Evolution strategies on the flat model: a gradient from returns alone, without backpropagation.

References
----------
Salimans, Ho, Chen, Sidor and Sutskever, "Evolution Strategies as a Scalable Alternative to Reinforcement
Learning", 2017 (arXiv 1703.03864), algorithm 1, with mirrored sampling and fitness shaping by ranks (section
2.1).
"""

from time import perf_counter
from typing import ClassVar

import numpy as np

from fdrl_mpi.arrays import DoubleArray, FloatMatrix, FloatVector, State
from fdrl_mpi.rl.distributions import distribution_of
from fdrl_mpi.rl.hyperparameters import OwnConfig
from fdrl_mpi.rl.learner import Budget, TrainStats
from fdrl_mpi.rl.model import NetworkFactory, PolicyModel
from fdrl_mpi.rl.network import Head, NetworkShape
from fdrl_mpi.rl.objective import LocalObjective
from fdrl_mpi.rl.rollout import Environment
from fdrl_mpi.steps import StepBuffers


class EvolutionStrategy:
    """One agent's evolution strategy; see `Learner` for the interface.

    A generation is `pairs` perturbations of the model, each played with both signs, by every environment for
    one episode. The budget is counted in episodes: one generation, and as many more as have room in it.

    Parameters
    ----------
    settings : OwnConfig
    model : PolicyModel
    environment : Environment
    objective : LocalObjective
    pairs : int
        n.
    noise : float
        sigma: standard deviation of the perturbations.
    horizon : int
        Steps after which an episode is cut.

    Raises
    ------
    ValueError
        If one of them is not positive.
    """

    action_kinds: ClassVar[tuple[str, ...]] = ("discrete", "multi_discrete", "box")
    unit: ClassVar[str] = "episodes"
    has_gradients: ClassVar[bool] = True

    def __init__(
        self,
        settings: OwnConfig,
        model: PolicyModel,
        environment: Environment,
        objective: LocalObjective,
        pairs: int = 16,
        noise: float = 0.1,
        horizon: int = 1000,
    ) -> None:
        if min(pairs, noise, horizon) <= 0:
            raise ValueError(f"pairs = {pairs}, noise = {noise} and horizon = {horizon} must be above 0")
        self._settings, self._model, self._environment = settings, model, environment
        self._objective, self._pairs, self._noise, self._horizon = objective, pairs, noise, horizon
        self._buffers = StepBuffers.allocate(environment.num_envs, environment.observation_size)
        self.params = model.params
        self.restart()

    @staticmethod
    def make_model(
        settings: OwnConfig,
        environment: Environment,
        make_network: NetworkFactory,
        generator: np.random.Generator,
        params: FloatVector | None,
    ) -> PolicyModel:
        """Make a policy, and nothing that would value it."""
        network, spec = settings.network, environment.action_spec
        shape = NetworkShape(
            environment.observation_size,
            (Head("actor", spec.size),),
            network.hidden,
            network.activation,
            initialisation=network.initialisation,
            is_bounded=network.bounded,
            convolutions=network.convolutions,
            observation_shape=environment.observation_shape,
        )
        return PolicyModel(make_network(shape, generator, params), distribution_of(spec))

    def train(self, budget: Budget) -> TrainStats:
        """Step along the estimated gradient, one generation after another."""
        stats, norms = TrainStats(), []
        for _ in range(max(budget.work // (2 * self._pairs * self._environment.num_envs), 1)):
            centre = self.params.copy()
            directions = budget.generator.standard_normal((self._pairs, len(centre)), np.float32)
            returns = self._evaluate(centre, directions, budget.generator, stats)
            self._load(centre)
            ascent = estimate(directions, centred_ranks(returns), self._noise)
            self._optimiser.gradient[:] = self._optimiser.adopt(-ascent)
            norms.append(self._optimiser.step(budget.lr, self._settings.max_gradient_norm))
            self._model.store()
            stats.gradient_steps += 1
        stats.means = {"gradient_norm": float(np.mean(norms))}
        return stats

    def restart(self) -> None:
        """Begin with a fresh optimiser; the model stays."""
        self._optimiser = self._objective.steer(self._model.network.optimiser(self._settings.optimiser))

    def get_state(self) -> State:
        """Return model and optimiser: every generation begins with new episodes."""
        return {"params": self.params.copy(), "optimiser": self._optimiser.get_state()}

    def set_state(self, state: State) -> None:
        """Go on from `get_state`."""
        self.params[:] = state["params"]
        self._optimiser.set_state(state["optimiser"])

    def _load(self, params: FloatVector) -> None:
        self.params[:] = params
        self._model.load()

    def _evaluate(
        self,
        centre: FloatVector,
        directions: FloatMatrix,
        generator: np.random.Generator,
        stats: TrainStats,
    ) -> DoubleArray:
        """Play every perturbation, all from the same starts; return mean returns, shape (n, 2)."""
        started, seed = perf_counter(), int(generator.integers(2**63))
        returns = np.empty((len(directions), 2))
        for number, direction in enumerate(directions):
            for place, sign in enumerate((1.0, -1.0)):
                self._load(centre + np.float32(sign * self._noise) * direction)
                returns[number, place] = self._play(np.random.default_rng(seed), stats)
        stats.rollout_s += perf_counter() - started
        return returns

    def _play(self, generator: np.random.Generator, stats: TrainStats) -> float:
        """Play an episode in every environment, greedily; return the mean of their returns."""
        environment, out = self._environment, self._buffers
        act, observations = self._model.greedy(environment.num_envs), environment.reset(generator)
        active = np.ones(environment.num_envs, np.bool_)
        returns, lengths = np.zeros((2, environment.num_envs))
        for _ in range(self._horizon):
            environment.step(act(observations), out)
            observations = out.observations
            returns += np.where(active, out.rewards, 0.0)
            lengths += active
            if out.any_done:
                active &= ~(out.terminated | out.truncated)
                if not active.any():
                    break
        stats.episodes += zip(returns.tolist(), lengths.tolist(), strict=True)
        stats.env_steps += int(lengths.sum())
        return float(returns.mean())


def centred_ranks(returns: DoubleArray) -> FloatMatrix:
    """Replace returns by their ranks, from -0.5 to 0.5; equal returns share the mean of their ranks."""
    _, places, counts = np.unique(returns, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts + 1) / 2)[places].reshape(returns.shape)
    centred: FloatMatrix = (ranks / max(returns.size - 1, 1) - 0.5).astype(np.float32)
    return centred


def estimate(directions: FloatMatrix, fitness: FloatMatrix, noise: float) -> FloatVector:
    """Estimate the gradient, ``1 / (2 n sigma) sum_i (F_i+ - F_i-) epsilon_i``, shape (d,).

    Parameters
    ----------
    directions : float32 array, shape (n, d)
        epsilon.
    fitness : float32 array, shape (n, 2)
        F+ and F-.
    """
    difference = fitness[:, 0] - fitness[:, 1]
    gradient: FloatVector = difference @ directions / np.float32(2 * len(directions) * noise)
    return gradient
