"""Deep Q-learning, with double estimates, a dueling head, several steps and prioritised replay as options.

References
----------
Mnih et al., "Human-level control through deep reinforcement learning", Nature 518, 2015, algorithm 1. van
Hasselt et al., "Deep Reinforcement Learning with Double Q-learning", AAAI 2016, equation 4. Wang et al.,
"Dueling Network Architectures", ICML 2016, equation 9. Hessel et al., "Rainbow", AAAI 2018.
"""

from time import perf_counter
from typing import Any, ClassVar

import numpy as np

from fdrl_mpi.arrays import ActionArray, FloatMatrix, FloatVector, IntVector, State
from fdrl_mpi.rl.exploration import linear_epsilon
from fdrl_mpi.rl.hyperparameters import DQNConfig
from fdrl_mpi.rl.learner import Budget, TrainStats
from fdrl_mpi.rl.model import Greedy, NetworkFactory, describe_network, network_groups
from fdrl_mpi.rl.n_step import StepWindow, Transitions
from fdrl_mpi.rl.network import Head, Network, NetworkShape
from fdrl_mpi.rl.objective import LocalObjective
from fdrl_mpi.rl.optimiser import SMALL_EPSILON
from fdrl_mpi.rl.prioritised import Priorities
from fdrl_mpi.rl.replay import Replay
from fdrl_mpi.rl.rollout import Environment, Rollout

TARGET = "target."
"""Begins the names of the target network's pieces."""


class EpsilonGreedy:
    """Chooses the best action, or with probability `epsilon` any; the part of `Distribution` a rollout uses.

    Attributes
    ----------
    epsilon : float64 array, shape (T,)
        Of each step of the next rollout.
    """

    action_dtype: type[np.generic] = np.int64
    action_shape: tuple[int, ...] = ()

    def __init__(self, size: int, num_steps: int) -> None:
        self._size = size
        self.epsilon = np.ones(num_steps)

    def noise(self, generator: np.random.Generator, steps: int, n: int) -> ActionArray:
        """Draw an action where it is to be any, and -1 where it is to be the best, shape (steps, n)."""
        chosen = generator.integers(self._size, size=(steps, n))
        chosen[generator.random((steps, n)) >= self.epsilon[:, None]] = -1
        return chosen

    def sample(
        self, outputs: FloatMatrix, free: FloatVector, noise: ActionArray, actions: ActionArray
    ) -> None:
        """Write the actions that `noise` selects; a lone environment is spared the calls on arrays."""
        if len(actions) == 1:
            chosen = int(noise[0])
            actions[0] = outputs.argmax() if chosen < 0 else chosen
            return
        outputs.argmax(axis=0, out=actions)
        np.copyto(actions, noise, where=noise >= 0)


class QModel:
    """Action values, and the target network where it is federated too; see `Model`."""

    def __init__(self, network: Network, target: Network, params: FloatVector) -> None:
        self.network, self.target, self.params = network, target, params
        self.pieces = dict(network.pieces)
        self.groups = network_groups(network)
        self._has_target = len(params) > len(network.params)
        if self._has_target:
            start = len(network.params)
            self.pieces |= {
                TARGET + name: slice(start + piece.start, start + piece.stop)
                for name, piece in network.pieces.items()
            }

    def load(self) -> None:
        self.network.load()
        if self._has_target:
            self.target.load()

    def store(self) -> None:
        self.network.store()
        if self._has_target:
            self.target.store()

    def greedy(self, num_rows: int) -> Greedy:
        act = self.network.actor(num_rows)
        return lambda observations: act(observations).argmax(axis=0)

    def state_dict(self) -> dict[str, FloatMatrix]:
        return self.network.state_dict()

    def describe(self) -> dict[str, Any]:
        name = self.network.shape.heads[0].name
        return {
            **describe_network(self.network.shape),
            "greedy_action": f"action_low plus the index of the largest output of {name}, counted from 0",
        }


class DQN:
    """One agent's deep Q-learning; see `Learner` for the interface.

    Parameters
    ----------
    settings : DQNConfig
    model : QModel
    environment : Environment
        The agent's worlds.
    objective : LocalObjective
    """

    action_kinds: ClassVar[tuple[str, ...]] = ("discrete",)
    unit: ClassVar[str] = "steps"
    means: ClassVar[tuple[str, ...]] = ("q_loss", "q_value", "gradient_norm")
    replay: Replay
    _steps: int
    _targets: int

    def __init__(
        self, settings: DQNConfig, model: QModel, environment: Environment, objective: LocalObjective
    ) -> None:
        self._settings, self._environment, self._objective = settings, environment, objective
        self._model, self._network, self._target = model, model.network, model.target
        self._num_actions = environment.action_spec.size
        self._cycle = settings.train_every // environment.num_envs
        self._chosen: IntVector = np.arange(settings.batch_size)
        outputs = self._network.shape.total_outputs
        self._d_outputs: FloatMatrix = np.zeros((outputs, settings.batch_size), np.float32)
        self._no_free: FloatVector = np.zeros(0, np.float32)
        self.params = model.params
        self.restart()

    @staticmethod
    def make_model(
        settings: DQNConfig,
        environment: Environment,
        make_network: NetworkFactory,
        generator: np.random.Generator,
        params: FloatVector | None,
    ) -> QModel:
        """Make the network and its target, which begins as its copy."""
        network, size = settings.network, environment.action_spec.size
        heads = (Head("advantage", size), Head("value", 1)) if settings.dueling else (Head("q", size),)
        shape = NetworkShape(
            environment.observation_size,
            heads,
            network.hidden,
            network.activation,
            initialisation=network.initialisation,
            convolutions=network.convolutions,
            observation_shape=environment.observation_shape,
        )
        if not settings.federate_target:
            online = make_network(shape, generator, params)
            target = make_network(shape, generator, None)
            both = online.params
        else:
            sample = make_network(shape, generator, None)
            d = len(sample.params)
            both = np.zeros(2 * d, np.float32) if params is None else params
            both[:d] = both[d:] = sample.params
            online, target = (
                _at(make_network, shape, generator, both[part]) for part in (slice(d), slice(d, None))
            )
        target.params[:] = online.params
        target.load()
        return QModel(online, target, both)

    def train(self, budget: Budget) -> TrainStats:
        """Alternate a few steps and one gradient until the budget is spent."""
        stats, sums, settings = TrainStats(), np.zeros(len(self.means)), self._settings
        self._model.load()
        self.start(budget.generator)
        for _ in range(budget.work // (self._cycle * self._environment.num_envs)):
            self._act(budget.generator, stats)
            if len(self.replay) >= settings.learning_starts:
                for _ in range(settings.gradient_steps):
                    sums += self._step(budget)
                stats.gradient_steps += settings.gradient_steps
            if self._steps // settings.target_every > self._targets:
                self._targets = self._steps // settings.target_every
                self._target.blend(self._network, settings.tau)
        self._model.store()
        stats.means = {
            **dict(zip(self.means, (sums / max(stats.gradient_steps, 1)).tolist(), strict=True)),
            "epsilon": linear_epsilon(self._settings, self._steps),
        }
        return stats

    def restart(self) -> None:
        """Begin with a fresh optimiser, no memory and a target that is the first network trained."""
        settings, environment = self._settings, self._environment
        self._policy = EpsilonGreedy(self._num_actions, self._cycle)
        self._rollout = Rollout(environment, self._cycle, self._policy)
        self._window = StepWindow(settings.n_step, settings.gamma)
        self.replay = Replay(
            settings.buffer_size, environment.observation_size, (), np.int64, settings.batch_size
        )
        self._priorities = None
        if settings.prioritised:
            exponents = settings.priority_exponent, settings.importance_exponent
            self._priorities = Priorities(settings.buffer_size, *exponents)
        optimiser = self._network.optimiser(settings.optimiser, SMALL_EPSILON)
        self._optimiser = self._objective.steer(optimiser)
        self._steps = self._targets = 0

    def start(self, generator: np.random.Generator) -> None:
        """See `Member.start`."""
        if self._steps == 0 and not self._settings.federate_target:
            self._target.blend(self._network, 1.0)
        self._rollout.begin_round(generator)

    @property
    def stage(self) -> int:
        """See `Member.stage`: exploration, the first gradient and new targets depend on the steps made."""
        return self._steps

    def get_state(self) -> State:
        """Return networks, optimiser, environments and memory."""
        return {
            **self.get_progress(),
            "window": self._window.get_state(),
            "replay": self.replay.get_state(),
            "priorities": self._priorities.get_state() if self._priorities else {},
        }

    def set_state(self, state: State) -> None:
        """Go on from `get_state`."""
        self.set_progress(state)
        self._window.set_state(state["window"])
        self.replay.set_state(state["replay"])
        if self._priorities:
            self._priorities.set_state(state["priorities"])

    def get_progress(self) -> State:
        """Return all but the memory, which is large."""
        self._target.store()
        return {
            "params": self.params.copy(),
            "target": self._target.params.copy(),
            "optimiser": self._optimiser.get_state(),
            "rollout": self._rollout.get_state(),
            "steps": self._steps,
            "targets": self._targets,
        }

    def set_progress(self, state: State) -> None:
        """Go on from `get_progress`; the memory stays."""
        self.params[:] = state["params"]
        self._target.params[:] = state["target"]
        self._target.load()
        self._optimiser.set_state(state["optimiser"])
        self._rollout.set_state(state["rollout"])
        self._steps, self._targets = int(state["steps"]), int(state["targets"])

    def _act(self, generator: np.random.Generator, stats: TrainStats) -> None:
        """Make the steps up to the next gradient, and remember them."""
        started, num_envs = perf_counter(), self._environment.num_envs
        self._policy.epsilon.fill(linear_epsilon(self._settings, self._steps))
        self._rollout.collect(self._network, generator)
        stats.episodes += self._rollout.finished_episodes()
        places = self.replay.add(self._window.push(self._rollout))
        if self._priorities and len(places):
            self._priorities.add(places)
        self._steps += self._cycle * num_envs
        stats.env_steps += self._cycle * num_envs
        stats.rollout_s += perf_counter() - started

    def _step(self, budget: Budget) -> FloatVector:
        """Follow the gradient of one batch; return its means."""
        settings, generator, weights = self._settings, budget.generator, None
        if self._priorities:
            places, weights = self._priorities.draw(generator, settings.batch_size, len(self.replay))
            batch = self.replay.gather(places)
        else:
            batch = self.replay.draw(generator)
        targets = self._targets_of(batch)
        error, value = self._differentiate(batch, targets, weights)
        if self._priorities:
            self._priorities.renew(places, error)
        norm = self._optimiser.step(budget.lr, settings.max_gradient_norm)
        return np.array([self._loss(error), value, norm])

    def _targets_of(self, batch: Transitions) -> FloatVector:
        """Compute ``r + discount * Q'(o', argmax_a Q''(o', a))``; Q'' is Q', or for double estimates Q."""
        settings = self._settings
        following = action_values(settings, self._target.forward(batch.next_observations))
        if not settings.double:
            return bootstrapped(batch, np.maximum.reduce(following, axis=0))
        best = action_values(settings, self._network.forward(batch.next_observations)).argmax(axis=0)
        return bootstrapped(batch, following[best, self._chosen])

    def _differentiate(
        self, batch: Transitions, targets: FloatVector, weights: FloatVector | None
    ) -> tuple[FloatVector, float]:
        """Fill the network's gradient with that of the mean loss; return errors and the mean value."""
        settings, outputs = self._settings, self._network.forward(batch.observations)
        values = action_values(settings, outputs)[batch.actions, self._chosen]
        error: FloatVector = values - targets
        slope = slopes(settings, error, len(error))
        if weights is not None:
            slope *= weights
        spread(settings, slope, batch.actions, self._chosen, self._d_outputs)
        self._network.backward(self._d_outputs, self._no_free, accumulate=False)
        return error, float(np.add.reduce(values)) / len(values)

    def _loss(self, error: FloatVector) -> float:
        if self._settings.loss == "squared":
            return float(np.dot(error, error)) / len(error)
        return float(huber(error).mean())


def action_values(settings: DQNConfig, outputs: FloatMatrix) -> FloatMatrix:
    """Turn a network's outputs into action values, shape (num_actions, n)."""
    if not settings.dueling:
        return outputs
    advantages = outputs[:-1]
    values: FloatMatrix = advantages - advantages.mean(axis=0) + outputs[-1]
    return values


def bootstrapped(batch: Transitions, values: FloatVector) -> FloatVector:
    """Make targets of the values of the next observations, in place."""
    values *= batch.discounts
    values += batch.rewards
    return values


def slopes(settings: DQNConfig, error: FloatVector, n: int) -> FloatVector:
    """Differentiate the mean loss of n transitions by the value of each action taken."""
    slope: FloatVector = np.clip(error, -1.0, 1.0) if settings.loss == "huber" else 2.0 * error
    slope *= np.float32(1.0 / n)
    return slope


def spread(
    settings: DQNConfig, slope: FloatVector, actions: ActionArray, chosen: IntVector, d_outputs: FloatMatrix
) -> None:
    """Write the derivatives by a network's outputs, given those by the values of the actions taken.

    `chosen` numbers the samples.
    """
    d_outputs.fill(0.0)
    d_outputs[actions, chosen] = slope
    if settings.dueling:
        d_outputs[:-1] -= slope / np.float32(len(d_outputs) - 1)
        d_outputs[-1] = slope


def huber(error: FloatVector) -> FloatVector:
    """Compute the loss that is squared below 1 and straight above."""
    size = np.abs(error)
    return np.where(size < 1.0, 0.5 * error * error, size - 0.5)


def _at(
    make_network: NetworkFactory, shape: NetworkShape, generator: np.random.Generator, params: FloatVector
) -> Network:
    """Make a network over parameters that are there already."""
    values = params.copy()
    network = make_network(shape, generator, params)
    network.params[:] = values
    network.load()
    return network
