"""Soft actor-critic with two critics and a temperature that is learnt; one learner for both engines.

The losses are differentiated by the networks' outputs here, in array code; the networks do the rest.

References
----------
Haarnoja et al., "Soft Actor-Critic Algorithms and Applications", arXiv 1812.05905, algorithm 1 and equations
5, 7 and 18. Fujimoto et al., "Addressing Function Approximation Error in Actor-Critic Methods", ICML 2018:
the actor steps more rarely than its critics.
"""

from dataclasses import dataclass
from time import perf_counter
from typing import ClassVar

import numpy as np

from fdrl_mpi.arrays import FloatMatrix, FloatVector, State
from fdrl_mpi.rl.experience import Experience
from fdrl_mpi.rl.hyperparameters import SACConfig
from fdrl_mpi.rl.learner import Budget, TrainStats
from fdrl_mpi.rl.n_step import Transitions
from fdrl_mpi.rl.network import Network, Optimiser
from fdrl_mpi.rl.objective import LocalObjective
from fdrl_mpi.rl.optimiser import SMALL_EPSILON, numpy_optimiser
from fdrl_mpi.rl.replay import Replay
from fdrl_mpi.rl.rollout import Environment
from fdrl_mpi.rl.sac_model import SACModel, sac_model
from fdrl_mpi.rl.squashed_gaussian import SquashedGaussian

_NO_FREE: FloatVector = np.empty(0, np.float32)


class SAC:
    """One agent's soft actor-critic; see `Learner` for the interface.

    Parameters
    ----------
    settings : SACConfig
    model : SACModel
    environment : Environment
        The agent's worlds.
    objective : LocalObjective
        What else there is to minimise.

    Notes
    -----
    What is remembered, and targets that are not federated, stay with the agent from round to round.

    One update of batches of 256 with two layers of 256 takes the time of about 19 products of 256^3:
    15 are such products (targets 3, critics 6, actor 6), the rest is biases, slopes and optimisers.
    """

    action_kinds: ClassVar[tuple[str, ...]] = ("box",)
    unit: ClassVar[str] = "steps"

    make_model = staticmethod(sac_model)

    def __init__(
        self, settings: SACConfig, model: SACModel, environment: Environment, objective: LocalObjective
    ) -> None:
        self._settings, self._model = settings, model
        self._environment, self._objective = environment, objective
        self._target_entropy = -float(model.action_size)
        self.params = model.params
        size, n, num_envs = model.action_size, settings.batch_size, environment.num_envs
        inputs = environment.observation_size + size
        self._acting, self._policy = SquashedGaussian(size, num_envs), SquashedGaussian(size, n)
        self._chosen, self._played = np.empty((2, num_envs, size), np.float32)
        self._noise = np.empty((size, n), np.float32)
        self._inputs, self._next_inputs = np.empty((2, n, inputs), np.float32)
        self._value, self._decay = np.empty((2, n), np.float32)
        self._d_values, self._squares = np.empty((2, 2, n), np.float32)
        self._d_actions = np.empty((size, n), np.float32)
        self._d_outputs = np.empty((2 * size, n), np.float32)
        self._first_is_lower = np.empty(n, np.bool_)
        self._alpha_gradient: FloatVector = np.zeros(1, np.float32)
        self.restart()

    def train(self, budget: Budget) -> TrainStats:
        """Act and learn, step by step, until the budget is spent."""
        stats, sums, experience = TrainStats(), _Sums(), self._experience
        num_steps = budget.work // self._environment.num_envs
        self._begin_round(budget, num_steps)
        before, generator = experience.env_steps, budget.generator
        noise = generator.standard_normal((num_steps, *self._acting.actions.shape), dtype=np.float32)
        act = self._model.actor.actor(self._environment.num_envs)
        for step_noise in noise:
            started = perf_counter()
            if experience.env_steps < self._settings.learning_starts:
                generator.random(out=self._chosen, dtype=np.float32)
                np.multiply(self._chosen, 2.0, out=self._chosen)
                np.subtract(self._chosen, 1.0, out=self._chosen)
            else:
                np.copyto(self._chosen.T, self._acting.sample(act(experience.observations), step_noise))
            experience.step(self._model.scale(self._chosen, self._played), self._chosen)
            stats.rollout_s += perf_counter() - started
            due = self._updates_due()
            for _ in range(due):
                self._update(budget, sums)
            if due:
                act = self._model.actor.actor(self._environment.num_envs)
        self._model.store()
        stats.env_steps, stats.gradient_steps = experience.env_steps - before, sums.updates
        stats.episodes = experience.finished_episodes()
        stats.means = sums.means() | {"temperature": self._alpha}
        return stats

    def restart(self) -> None:
        """Begin with fresh optimisers and episodes, nothing remembered, and targets equal to the critics."""
        model, steer = self._model, self._objective.steer
        starts = {name: section.start for name, section in model.sections.items()}
        settings, environment = self._settings, self._environment
        self._replay = Replay(
            settings.buffer_size,
            environment.observation_size,
            (model.action_size,),
            np.float32,
            settings.batch_size,
        )
        self._experience = Experience(environment, self._replay, settings.gamma)
        self._actor_optimiser = steer(self._optimiser(model.actor), starts["actor"])
        self._critic_optimiser = steer(self._optimiser(model.critics), starts["critics"])
        self._alpha_optimiser = steer(
            numpy_optimiser(self._settings.optimiser, model.log_alpha, self._alpha_gradient, SMALL_EPSILON),
            starts["log_alpha"],
        )
        self._updates = 0
        self._has_target = False

    def get_state(self) -> State:
        """Return model, targets, optimisers, environments and what is remembered."""
        self._model.target.store()
        return {
            "params": self.params.copy(),
            "target": self._model.target.params.copy(),
            "has_target": self._has_target,
            "actor_optimiser": self._actor_optimiser.get_state(),
            "critic_optimiser": self._critic_optimiser.get_state(),
            "alpha_optimiser": self._alpha_optimiser.get_state(),
            "experience": self._experience.get_state(),
            "updates": self._updates,
        }

    def set_state(self, state: State) -> None:
        """Go on from `get_state`."""
        self.params[:] = state["params"]
        self._model.target.params[:] = state["target"]
        self._model.target.load()
        self._has_target = bool(state["has_target"])
        self._actor_optimiser.set_state(state["actor_optimiser"])
        self._critic_optimiser.set_state(state["critic_optimiser"])
        self._alpha_optimiser.set_state(state["alpha_optimiser"])
        self._experience.set_state(state["experience"])
        self._updates = int(state["updates"])

    @property
    def _alpha(self) -> float:
        """The temperature; infinite where its logarithm has diverged, which makes the losses so."""
        return float(np.exp(np.float64(self._model.log_alpha[0])))

    def _optimiser(self, network: Network) -> Optimiser:
        return network.optimiser(self._settings.optimiser, SMALL_EPSILON)

    def _begin_round(self, budget: Budget, num_steps: int) -> None:
        """Take the model as it was published; targets of its own begin at the first critics it gets."""
        model = self._model
        model.load()
        if not self._has_target and not self._settings.federate_target:
            model.target.blend(model.critics, 1.0)
        self._has_target = True
        self._experience.begin_round(budget.generator, num_steps)

    def _updates_due(self) -> int:
        """Count the multiples of `train_every` that the last step of all environments has reached."""
        settings, steps = self._settings, self._experience.env_steps
        if steps <= settings.learning_starts:
            return 0
        return steps // settings.train_every - (steps - self._environment.num_envs) // settings.train_every

    def _update(self, budget: Budget, sums: "_Sums") -> None:
        """Step the critics, sometimes actor and temperature, and let the targets follow."""
        settings, model, generator = self._settings, self._model, budget.generator
        critic_lr = settings.critic_lr * (budget.lr / settings.lr)
        batch = self._replay.draw(generator)
        sums.q_loss += self._critic_gradient(batch, self._targets(batch, generator))
        sums.gradient_norm += self._critic_optimiser.step(critic_lr, settings.max_gradient_norm)
        if self._updates % settings.policy_frequency == 0:
            for _ in range(settings.policy_frequency):
                sums.policy_loss += self._actor_gradient(batch, generator)
                self._actor_optimiser.step(budget.lr, settings.max_gradient_norm)
                sums.entropy += self._temperature_gradient()
                self._alpha_optimiser.step(critic_lr, settings.max_gradient_norm)
                sums.policy_updates += 1
        model.target.blend(model.critics, settings.tau)
        self._updates += 1
        sums.updates += 1

    def _targets(self, batch: Transitions, generator: np.random.Generator) -> FloatVector:
        """Compute ``r + gamma (1 - terminated) (min Q'(o', a') - alpha log p(a'))``, shape (n,).

        The action is drawn from the policy as it is. An episode that was cut goes on beyond its end.
        """
        model, policy, value, inputs = self._model, self._policy, self._value, self._next_inputs
        size = model.action_size
        self._draw(batch.next_observations, generator)
        inputs[:, :-size] = batch.next_observations
        inputs[:, -size:] = policy.actions.T
        next_values = model.target.forward(inputs)
        np.minimum(next_values[0], next_values[1], out=value)
        np.multiply(policy.evaluate(), self._alpha, out=self._decay)
        np.subtract(value, self._decay, out=value)
        np.multiply(value, batch.discounts, out=value)
        return np.add(value, batch.rewards, out=value)

    def _critic_gradient(self, batch: Transitions, targets: FloatVector) -> float:
        """Differentiate the sum of both critics' mean squared errors; return its half."""
        critics, n, size, errors = self._model.critics, len(targets), self._model.action_size, self._d_values
        self._inputs[:, :-size] = batch.observations
        self._inputs[:, -size:] = batch.actions
        np.subtract(critics.forward(self._inputs), targets, out=errors)
        loss = float(np.vdot(errors, errors)) / (2 * n)
        np.multiply(errors, 2.0 / n, out=errors)
        critics.backward(errors, _NO_FREE, accumulate=False)
        return loss

    def _actor_gradient(self, batch: Transitions, generator: np.random.Generator) -> float:
        """Differentiate the mean of ``alpha log p(a) - min Q(o, a)`` through the actions; return it."""
        model, policy, n = self._model, self._policy, self._settings.batch_size
        self._draw(batch.observations, generator)
        self._inputs[:, -model.action_size :] = policy.actions.T
        values = model.critics.forward(self._inputs)
        first, second = values
        np.less_equal(first, second, out=self._first_is_lower)
        np.multiply(self._first_is_lower, -1.0 / n, out=self._d_values[0])
        np.subtract(-1.0 / n, self._d_values[0], out=self._d_values[1])
        loss = self._alpha * float(policy.evaluate().mean()) + float(np.vdot(self._d_values, values))
        d_inputs = model.critics.input_gradient(self._d_values)
        np.copyto(self._d_actions, d_inputs[:, -model.action_size :].T)
        policy.backward(self._d_actions, self._alpha / n, self._d_outputs)
        model.actor.backward(self._d_outputs, _NO_FREE, accumulate=False)
        return loss

    def _temperature_gradient(self) -> float:
        """Differentiate the mean of ``-alpha (log p(a) + target entropy)`` by log alpha; return the entropy.

        The log-densities are those of the actor's own step.
        """
        entropy = -float(self._policy.log_probability.mean())
        self._alpha_gradient[0] = self._alpha * (entropy - self._target_entropy)
        return entropy

    def _draw(self, observations: FloatMatrix, generator: np.random.Generator) -> None:
        """Draw one action of the policy for each observation."""
        generator.standard_normal(out=self._noise, dtype=np.float32)
        self._policy.sample(self._model.actor.forward(observations), self._noise)


@dataclass
class _Sums:
    """What a round's updates add up to."""

    updates: int = 0
    policy_updates: int = 0
    q_loss: float = 0.0
    gradient_norm: float = 0.0
    policy_loss: float = 0.0
    entropy: float = 0.0

    def means(self) -> dict[str, float]:
        """Average what there has been."""
        means: dict[str, float] = {}
        if self.updates:
            means |= {name: getattr(self, name) / self.updates for name in ("q_loss", "gradient_norm")}
        if self.policy_updates:
            means |= {name: getattr(self, name) / self.policy_updates for name in ("policy_loss", "entropy")}
        return means
