"""On-policy learners that learn together; see `Team`."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from time import perf_counter
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from fdrl_mpi.arrays import ActionArray, BoolVector, DoubleArray, FloatMatrix, FloatVector, IntVector
from fdrl_mpi.rl import a2c, ppo
from fdrl_mpi.rl.distributions import distribution_of
from fdrl_mpi.rl.hyperparameters import A2CConfig, OnPolicyConfig, PPOConfig
from fdrl_mpi.rl.learner import Budget, TrainStats
from fdrl_mpi.rl.model import PolicyModel
from fdrl_mpi.rl.on_policy import BLOCK_ROWS, Batch, slices
from fdrl_mpi.rl.optimiser import EPSILON
from fdrl_mpi.rl.returns import generalised_advantages
from fdrl_mpi.rl.rollout import Rollout
from fdrl_mpi.rl.stack import MLPStack
from fdrl_mpi.rl.stack_optimiser import stack_optimiser
from fdrl_mpi.rl.team import Generators, GroupedEnvironment, Member, Worlds, joined, parted

Settings = TypeVar("Settings", bound=OnPolicyConfig)
NO_FREE: FloatVector = np.zeros(0, np.float32)


class OnPolicyTeam(ABC, Generic[Settings]):
    """A learners that act in one vector of environments, and learn a few at a time.

    Acting takes as many calls for all as for one. Learning is done in blocks of `BLOCK_ROWS` samples, the
    members of one block together: more of them would only leave the cache.

    Parameters
    ----------
    settings : OnPolicyConfig
    model : PolicyModel
        Like that of every member.
    worlds : Worlds
    """

    diagnostics: ClassVar[tuple[str, ...]]

    def __init__(self, settings: Settings, model: PolicyModel, worlds: Worlds) -> None:
        self._settings, self._worlds = settings, worlds
        self._num_members, self._num_envs = worlds.num_members, worlds.envs_each
        self._distribution = distribution_of(worlds.action_spec)
        shape = model.network.shape
        self._samples = settings.num_steps * self._num_envs
        size = MLPStack.size(shape)
        self._params, gradient = np.zeros((2, self._num_members, size), np.float32)
        self._stack = MLPStack(shape, self._params, gradient)
        self._optimiser = stack_optimiser(settings.optimiser, self._params, gradient, EPSILON)
        self._rollout = Rollout(worlds, settings.num_steps, self._distribution)
        self._update_rows = self._rows_of_a_gradient(settings, self._num_envs)
        self._blocks = self._stack.parts(self._update_rows)
        self._value_blocks = self._stack.parts((settings.num_steps + 1) * self._num_envs)
        self._generators = Generators([])

    @staticmethod
    @abstractmethod
    def _rows_of_a_gradient(settings: Any, envs_each: int) -> int:
        """Count the samples of one member in one gradient."""

    @abstractmethod
    def _update(self, stack: MLPStack, members: slice, batch: Batch, lr: float, sums: DoubleArray) -> int:
        """Let the members of a block learn from their rows of `batch`; return the optimiser's steps.

        `sums`, shape (B, diagnostics), is added to.
        """

    @classmethod
    def objection(cls, settings: OnPolicyConfig, model: PolicyModel, envs_each: int) -> str:
        """See `Team.objection`."""
        rows = cls._rows_of_a_gradient(settings, envs_each)
        if rows > BLOCK_ROWS:
            return f"a gradient of {rows} samples fills the cache alone"
        if model.distribution.num_free:
            return "actions are real numbers"
        if settings.normalise_rewards:
            return "learner.normalise_rewards"
        return ""

    def train(
        self, members: Sequence[Member], budgets: Sequence[Budget], environment: GroupedEnvironment
    ) -> list[TrainStats]:
        """See `Team.train`."""
        self._worlds.enter(environment)
        self._take(members, budgets)
        all_stats = [TrainStats() for _ in members]
        sums = np.zeros((self._num_members, len(self.diagnostics)))
        num_rollouts, rollout_s, steps = budgets[0].work // self._samples, 0.0, 0
        for _ in range(num_rollouts):
            rollout_s += self._act(all_stats)
            batch = self._batch()
            for block, stack in self._blocks:
                steps = self._update(stack, block, batch, budgets[0].lr, sums[block])
        for stats, means in zip(all_stats, sums / max(num_rollouts, 1), strict=True):
            stats.env_steps, stats.gradient_steps = num_rollouts * self._samples, num_rollouts * steps
            stats.rollout_s = rollout_s / len(members)
            stats.means = dict(zip(self.diagnostics, means.tolist(), strict=True))
        self._give_back(members)
        return all_stats

    def _take(self, members: Sequence[Member], budgets: Sequence[Budget]) -> None:
        """Begin the round as every member would, from what each has saved."""
        self._generators = Generators([budget.generator for budget in budgets])
        for member, generator in zip(members, self._generators.members, strict=True):
            member.start(generator)
        states = [member.get_state() for member in members]
        for row, state in zip(self._params, states, strict=True):
            row[:] = state["params"]
        self._optimiser.set_states([state["optimiser"] for state in states])
        self._rollout.set_state(joined([state["rollout"] for state in states]))
        self._rollout.begin_round(self._generators)

    def _give_back(self, members: Sequence[Member]) -> None:
        """Leave with every member what it would have come to alone."""
        rollouts = parted(self._rollout.get_state(), self._num_members)
        optimisers = self._optimiser.get_states()
        for row, member in enumerate(members):
            own = {"params": self._params[row], "optimiser": optimisers[row], "rollout": rollouts[row]}
            member.set_state({**own, "scaler": {}})

    def _act(self, all_stats: Sequence[TrainStats]) -> float:
        """Make a rollout, in which each member counts its own episodes; return its seconds."""
        started = perf_counter()
        self._rollout.collect(self._stack, self._generators)
        for env, total, length in self._rollout.numbered_episodes():
            all_stats[env // self._num_envs].episodes.append((total, length))
        return perf_counter() - started

    def _batch(self) -> Batch:
        """Value the rollout; columns have shape (A, samples, ...), in time order."""
        rollout, settings = self._rollout, self._settings
        observations = self._by_member(rollout.observations)
        actions = self._by_member(rollout.actions)
        values = np.empty(observations.shape[:2], np.float32)
        log_probability = np.empty((self._num_members, self._samples), np.float32)
        for block, stack in self._value_blocks:
            for rows in slices(observations.shape[1], BLOCK_ROWS):
                outputs = stack.forward(observations[block, rows])
                values[block, rows] = outputs[-1]
                chosen = actions[block, rows]
                acting = np.ascontiguousarray(outputs[:-1, :, : chosen.shape[1]])
                self._distribution.evaluate(_flat(acting), NO_FREE, _flattened(chosen))
                log_probability[block, rows] = self._distribution.log_probability.reshape(chosen.shape[:2])
        value_rows = self._by_step(values)
        done = rollout.terminated | rollout.truncated
        advantages = generalised_advantages(
            rollout.rewards,
            value_rows[:-1],
            self._next_values(value_rows),
            rollout.terminated,
            done,
            settings.gamma,
            settings.gae_lambda,
        )
        old, advantage = values[:, : self._samples], self._by_member(advantages)
        seen = observations[:, : self._samples]
        return Batch(seen, actions, log_probability, advantage, advantage + old, old)

    def _next_values(self, values: FloatMatrix) -> FloatMatrix:
        """Return the value of every true next observation; only truncated steps need a pass of their own."""
        rollout = self._rollout
        cut = rollout.truncated & ~rollout.terminated
        if not cut.any():
            return values[1:]
        member, step = self._by_member(cut).nonzero()
        counts = np.bincount(member, minlength=self._num_members)
        place = np.arange(len(member)) - np.repeat(np.cumsum(counts) - counts, counts)
        sizes = 1 << np.ceil(np.log2(np.maximum(counts, 1))).astype(np.int64)  # of each member, as if alone
        final = np.zeros((self._num_members, sizes.max(), rollout.observations.shape[-1]), np.float32)
        final[member, place] = self._by_member(rollout.final_observations)[member, step]
        found = np.empty(final.shape[:2], np.float32)
        for block, stack in self._value_blocks:
            for size in np.unique(sizes[block][counts[block] > 0]).tolist():
                self._value(stack, final[block, :size], found[block, :size], sizes[block] == size)
        next_values = self._by_member(values[1:]).copy()
        next_values[member, step] = found[member, place]
        return self._by_step(next_values)

    def _value(self, stack: MLPStack, final: FloatMatrix, found: FloatMatrix, chosen: BoolVector) -> None:
        """Write the values of `final` into `found`, of the chosen members of a block."""
        for rows in slices(final.shape[1], BLOCK_ROWS):
            found[chosen, rows] = stack.forward(final[:, rows])[-1][chosen]

    def _by_member(self, rows: ActionArray) -> ActionArray:
        """Copy what is ordered by steps, (T, A * N, ...), member by member: (A, T * N, ...)."""
        steps, rest = len(rows), rows.shape[2:]
        split = rows.reshape(steps, self._num_members, self._num_envs, *rest).swapaxes(0, 1)
        return np.ascontiguousarray(split).reshape(self._num_members, steps * self._num_envs, *rest)

    def _by_step(self, values: FloatMatrix) -> FloatMatrix:
        """Undo `_by_member` for single numbers."""
        split = values.reshape(self._num_members, -1, self._num_envs).swapaxes(0, 1)
        return np.ascontiguousarray(split).reshape(-1, self._num_members * self._num_envs)


class PPOTeam(OnPolicyTeam[PPOConfig]):
    """`PPO` of all members, without an end to the epochs by their divergence."""

    diagnostics = ppo.PPO.diagnostics

    @classmethod
    def objection(cls, settings: OnPolicyConfig, model: PolicyModel, envs_each: int) -> str:
        """See `Team.objection`."""
        if isinstance(settings, PPOConfig) and settings.target_kl > 0.0:
            return "learner.target_kl ends the epochs of each agent elsewhere"
        return super().objection(settings, model, envs_each)

    @staticmethod
    def _rows_of_a_gradient(settings: PPOConfig, envs_each: int) -> int:
        return settings.num_steps * envs_each // settings.num_minibatches

    def _update(self, stack: MLPStack, members: slice, batch: Batch, lr: float, sums: DoubleArray) -> int:
        settings, steps = self._settings, self._settings.num_minibatches
        columns = [column[members].reshape(-1, *column.shape[2:]) for column in batch.columns()]
        size = len(stack) * self._update_rows
        means = np.zeros_like(sums)
        for epoch in range(1, settings.num_epochs + 1):
            order, means[:] = self._order(members), 0.0
            gathered = Batch(*(column.take(order, axis=0, mode="clip") for column in columns))
            for rows in slices(len(order), size):
                means[:, :-1] += self._gradient(stack, gathered.rows(rows), epoch == settings.num_epochs)
                means[:, -1] += self._optimiser.step(members, lr, settings.max_gradient_norm)
        sums += means / steps
        return steps * settings.num_epochs

    def _order(self, members: slice) -> IntVector:
        """Shuffle each member's samples; all members' rows of the first minibatch come first, and so on."""
        order = np.stack(
            [generator.permutation(self._samples) for generator in self._generators.members[members]]
        )
        order += self._samples * np.arange(len(order))[:, None]
        by_minibatch = order.reshape(len(order), self._settings.num_minibatches, -1).swapaxes(0, 1)
        return by_minibatch.reshape(-1)

    def _gradient(self, stack: MLPStack, batch: Batch, measured: bool) -> DoubleArray | float:
        """Fill the block's gradients from one minibatch of each member; return diagnostics if `measured`."""
        settings, members, n = self._settings, len(stack), self._update_rows
        if settings.normalise_advantages:
            normalise(batch.advantage.reshape(members, n))
        outputs = stack.forward(batch.observations.reshape(members, n, -1))
        d_outputs = np.empty_like(outputs)
        gain, log_ratio = ppo.differentiate(
            settings, self._distribution, _flat(outputs), NO_FREE, batch, n, _flat(d_outputs), NO_FREE
        )
        stack.backward(d_outputs, stack.free)
        if not measured:
            return 0.0
        drift = np.expm1(log_ratio)
        columns = (
            -gain,
            0.5 * np.square(_flat(outputs)[-1] - batch.target),
            self._distribution.entropy,
            drift - log_ratio,
            np.abs(drift) > settings.clip_range,
        )
        return np.stack([column.reshape(members, n).sum(axis=1) for column in columns], axis=1) / n


class A2CTeam(OnPolicyTeam[A2CConfig]):
    """`A2C` of all members."""

    diagnostics = a2c.A2C.diagnostics

    @staticmethod
    def _rows_of_a_gradient(settings: A2CConfig, envs_each: int) -> int:
        return settings.num_steps * envs_each

    def _update(self, stack: MLPStack, members: slice, batch: Batch, lr: float, sums: DoubleArray) -> int:
        settings, num_members, n = self._settings, len(stack), self._samples
        block = Batch(*(_flattened(column[members]) for column in batch.columns()))
        if settings.normalise_advantages:
            normalise(block.advantage.reshape(num_members, n))
        outputs = stack.forward(block.observations.reshape(num_members, n, -1))
        d_outputs, policy = np.empty_like(outputs), self._distribution
        error = a2c.differentiate(
            settings, policy, _flat(outputs), NO_FREE, block, n, _flat(d_outputs), NO_FREE
        )
        stack.backward(d_outputs, stack.free)
        advantage, log_probability, errors, entropy = (
            column.reshape(num_members, n)
            for column in (block.advantage, policy.log_probability, error, policy.entropy)
        )
        sums[:, 0] -= np.vecdot(advantage, log_probability) / n
        sums[:, 1] += 0.5 * np.vecdot(errors, errors) / n
        sums[:, 2] += entropy.sum(axis=1) / n
        sums[:, 3] += self._optimiser.step(members, lr, settings.max_gradient_norm)
        return 1


def normalise(advantages: FloatMatrix) -> None:
    """Give each row zero mean and unit deviation, in place."""
    n = advantages.shape[1]
    means = np.add.reduce(advantages, axis=1).astype(np.float64) / n
    advantages -= means[:, None].astype(np.float32)
    squares = np.vecdot(advantages, advantages).astype(np.float64)
    advantages *= (1.0 / (np.sqrt(squares / max(n - 1, 1)) + 1e-8))[:, None].astype(np.float32)


def _flat(outputs: FloatMatrix) -> FloatMatrix:
    """Put the samples of all members of a block behind each other: (outputs, B * n)."""
    return outputs.reshape(len(outputs), -1)


def _flattened(column: ActionArray) -> ActionArray:
    """Put the samples of all members of a block below each other: (B * n, ...)."""
    return column.reshape(-1, *column.shape[2:])
