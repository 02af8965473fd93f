"""What on-policy learners share: rollouts of the newest policy, valued, and turned into one update."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import sqrt
from time import perf_counter
from typing import ClassVar

import numpy as np

from fdrl_mpi.arrays import ActionArray, DoubleArray, FloatMatrix, FloatVector, State
from fdrl_mpi.rl.hyperparameters import OnPolicyConfig
from fdrl_mpi.rl.learner import Budget, TrainStats
from fdrl_mpi.rl.model import PolicyModel, policy_model
from fdrl_mpi.rl.objective import LocalObjective
from fdrl_mpi.rl.returns import RewardScaler, generalised_advantages
from fdrl_mpi.rl.rollout import Environment, Rollout

BLOCK_ROWS = 1024
"""Rows a network works on at once: the hidden layers of a block stay in a core's second-level cache."""


@dataclass(frozen=True)
class Batch:
    """Samples of a rollout, one a row, or the same columns gathered in another order."""

    observations: FloatMatrix
    actions: ActionArray
    log_probability: FloatVector
    advantage: FloatVector
    target: FloatVector
    value: FloatVector

    def columns(self) -> tuple[ActionArray, ...]:
        return self.observations, self.actions, self.log_probability, self.advantage, self.target, self.value

    def rows(self, chosen: slice) -> "Batch":
        return Batch(*(column[chosen] for column in self.columns()))


class OnPolicyLearner(ABC):
    """Alternates rollouts and updates; see `Learner` for the interface. An algorithm is its `_update`.

    Parameters
    ----------
    settings : OnPolicyConfig
    model : PolicyModel
    environment : Environment
        The agent's worlds.
    objective : LocalObjective
        What else there is to minimise.
    """

    action_kinds: ClassVar[tuple[str, ...]] = ("discrete", "multi_discrete", "box")
    unit: ClassVar[str] = "steps"
    diagnostics: ClassVar[tuple[str, ...]]
    """Names of the means that `_update` adds up; the gradient's norm comes last."""

    make_model = staticmethod(policy_model)

    def __init__(
        self,
        settings: OnPolicyConfig,
        model: PolicyModel,
        environment: Environment,
        objective: LocalObjective,
    ) -> None:
        self._on_policy = settings
        self._network, self._distribution = model.network, model.distribution
        self._environment, self._objective = environment, objective
        self._samples = settings.num_steps * environment.num_envs
        self.params = model.params
        self.restart()

    @abstractmethod
    def _update(self, batch: Batch, budget: Budget, sums: DoubleArray) -> int:
        """Learn from one batch, add to `sums` the means of `diagnostics`; return the optimiser's steps."""

    def train(self, budget: Budget) -> TrainStats:
        """Alternate rollouts and updates until the budget is spent."""
        stats = TrainStats()
        sums = np.zeros(len(self.diagnostics))
        self._network.load()
        self._rollout.begin_round(budget.generator)
        for _ in range(budget.work // self._samples):
            started = perf_counter()
            self._rollout.collect(self._network, budget.generator)
            stats.rollout_s += perf_counter() - started
            stats.episodes += self._rollout.finished_episodes()
            stats.env_steps += self._samples
            stats.gradient_steps += self._update(self._batch(), budget, sums)
        self._network.store()
        means = sums / max(stats.env_steps // self._samples, 1)
        stats.means = dict(zip(self.diagnostics, means.tolist(), strict=True))
        return stats

    def start(self, generator: np.random.Generator) -> None:
        """See `Member.start`."""
        self._rollout.begin_round(generator)

    @property
    def stage(self) -> int:
        """See `Member.stage`: nothing here depends on how far the learner has come."""
        return 0

    def restart(self) -> None:
        """Begin with a fresh optimiser, fresh episodes and no statistics; the model stays."""
        settings, environment = self._on_policy, self._environment
        self._rollout = Rollout(environment, settings.num_steps, self._distribution)
        self._optimiser = self._objective.steer(self._network.optimiser(settings.optimiser))
        scaler = RewardScaler(environment.num_envs, settings.gamma)
        self._scaler = scaler if settings.normalise_rewards else None

    def get_state(self) -> State:
        """Return model, optimiser, environments and reward statistics."""
        scaler = self._scaler.get_state() if self._scaler else {}
        return {
            "params": self.params.copy(),
            "optimiser": self._optimiser.get_state(),
            "rollout": self._rollout.get_state(),
            "scaler": scaler,
        }

    def set_state(self, state: State) -> None:
        """Go on from `get_state`."""
        self.params[:] = state["params"]
        self._optimiser.set_state(state["optimiser"])
        self._rollout.set_state(state["rollout"])
        if self._scaler:
            self._scaler.set_state(state["scaler"])

    def _batch(self) -> Batch:
        """Add values, log-probabilities, advantages and targets to the rollout, in one pass."""
        rollout, settings = self._rollout, self._on_policy
        steps, num_envs = rollout.rewards.shape
        observations = rollout.observations.reshape((steps + 1) * num_envs, -1)
        actions = rollout.actions.reshape(self._samples, *self._distribution.action_shape)
        values = np.empty(len(observations), np.float32)
        log_probability = np.empty(self._samples, np.float32)
        for rows in slices(len(observations), BLOCK_ROWS):
            outputs = self._network.forward(observations[rows])
            values[rows] = outputs[-1]
            chosen = actions[rows]
            if len(chosen):
                self._distribution.evaluate(outputs[:-1, : len(chosen)], self._network.free, chosen)
                log_probability[rows] = self._distribution.log_probability
        value_rows: FloatMatrix = values.reshape(steps + 1, num_envs)
        done = rollout.terminated | rollout.truncated
        rewards = self._scaler.scale(rollout.rewards, done) if self._scaler else rollout.rewards
        advantages = generalised_advantages(
            rewards,
            value_rows[:-1],
            self._next_values(value_rows),
            rollout.terminated,
            done,
            settings.gamma,
            settings.gae_lambda,
        )
        old = value_rows[:-1].ravel()
        flat = advantages.ravel()
        return Batch(observations[: self._samples], actions, log_probability, flat, flat + old, old)

    def _next_values(self, values: FloatMatrix) -> FloatMatrix:
        """Return the value of every true next observation; only truncated steps need a pass of their own."""
        rollout = self._rollout
        cut = rollout.truncated & ~rollout.terminated
        if not cut.any():
            return values[1:]
        next_values = values[1:].copy()
        final = rollout.final_observations[cut]
        padded = np.zeros((1 << (len(final) - 1).bit_length(), final.shape[1]), np.float32)
        padded[: len(final)] = final  # a network keeps arrays for each number of rows: let those be few
        blocks = [self._network.forward(padded[rows])[-1].copy() for rows in slices(len(padded), BLOCK_ROWS)]
        next_values[cut] = np.concatenate(blocks)[: len(final)]
        return next_values


def normalise(blocks: list[FloatVector], n: int) -> None:
    """Give the advantages of one batch zero mean and unit deviation, in place."""
    mean = sum(float(np.add.reduce(block)) for block in blocks) / n
    for block in blocks:
        block -= mean
    square = sum(float(np.dot(block, block)) for block in blocks)
    scale = 1.0 / (sqrt(square / max(n - 1, 1)) + 1e-8)
    for block in blocks:
        block *= scale


def slices(length: int, size: int) -> list[slice]:
    """Cut `length` rows into slices of `size`, the last one shorter where it must be."""
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]
