"""Deep Q-learners that learn together; see `Team`."""

from collections.abc import Sequence
from time import perf_counter

import numpy as np

from fdrl_mpi.arrays import ActionArray, DoubleArray, FloatMatrix, FloatVector, IntVector
from fdrl_mpi.rl.dqn import (
    DQN,
    EpsilonGreedy,
    QModel,
    action_values,
    bootstrapped,
    huber,
    slopes,
    spread,
)
from fdrl_mpi.rl.exploration import linear_epsilon
from fdrl_mpi.rl.hyperparameters import DQNConfig
from fdrl_mpi.rl.learner import Budget, TrainStats
from fdrl_mpi.rl.n_step import Transitions
from fdrl_mpi.rl.on_policy import BLOCK_ROWS
from fdrl_mpi.rl.optimiser import SMALL_EPSILON
from fdrl_mpi.rl.replay import COLUMNS, allocate_transitions
from fdrl_mpi.rl.rollout import Rollout
from fdrl_mpi.rl.stack import MLPStack
from fdrl_mpi.rl.stack_optimiser import stack_optimiser
from fdrl_mpi.rl.team import Generators, GroupedEnvironment, Member, Worlds, joined, parted


class DQNTeam:
    """A learners that act in one vector of environments; each keeps its own memory.

    Parameters
    ----------
    settings : DQNConfig
    model : QModel
        Like that of every member.
    worlds : Worlds
    """

    def __init__(self, settings: DQNConfig, model: QModel, worlds: Worlds) -> None:
        self._settings, self._worlds = settings, worlds
        shape, members = model.network.shape, worlds.num_members
        size, batch = MLPStack.size(shape), settings.batch_size
        self._params, gradient, self._target_params = np.zeros((3, members, size), np.float32)
        self._stack = MLPStack(shape, self._params, gradient)
        targets = MLPStack(shape, self._target_params, gradient)
        self._blocks = self._stack.parts(batch)
        self._targets = [target for _, target in targets.parts(batch)]
        self._optimiser = stack_optimiser(settings.optimiser, self._params, gradient, SMALL_EPSILON)
        self._cycle = settings.train_every // worlds.envs_each
        self._policy = EpsilonGreedy(worlds.action_spec.size, self._cycle)
        self._rollout = Rollout(worlds, self._cycle, self._policy)
        most = max(len(stack) for _, stack in self._blocks)
        self._batch = allocate_transitions(most * batch, worlds.observation_size, (), np.int64)
        self._parts = [_rows(self._batch, slice(i * batch, (i + 1) * batch)) for i in range(most)]
        self._chosen: IntVector = np.arange(most * batch)
        self._members: Sequence[DQN] = ()
        self._generators = Generators([])
        self._steps = 0

    @staticmethod
    def objection(settings: DQNConfig, model: QModel, envs_each: int) -> str:
        """See `Team.objection`."""
        if settings.n_step > 1 or settings.prioritised:
            return "learner.n_step and learner.prioritised"
        if settings.batch_size > BLOCK_ROWS:
            return f"a gradient of {settings.batch_size} samples fills the cache alone"
        return ""

    def train(
        self, members: Sequence[Member], budgets: Sequence[Budget], environment: GroupedEnvironment
    ) -> list[TrainStats]:
        """See `Team.train`."""
        settings, envs_each = self._settings, self._worlds.envs_each
        self._worlds.enter(environment)
        self._take(members, budgets)
        all_stats = [TrainStats() for _ in members]
        sums, num_gradients, rollout_s = np.zeros((len(members), len(DQN.means))), 0, 0.0
        steps = self._cycle * envs_each
        for _ in range(budgets[0].work // steps):
            rollout_s += self._act(all_stats)
            if len(self._members[0].replay) >= settings.learning_starts:
                for _ in range(settings.gradient_steps):
                    self._learn(budgets[0].lr, sums)
                num_gradients += settings.gradient_steps
            before, self._steps = self._steps, self._steps + steps
            if self._steps // settings.target_every > before // settings.target_every:
                self._renew_targets()
        epsilon = linear_epsilon(settings, self._steps)
        for stats, means in zip(all_stats, sums / max(num_gradients, 1), strict=True):
            stats.means = {**dict(zip(DQN.means, means.tolist(), strict=True)), "epsilon": epsilon}
            stats.env_steps, stats.gradient_steps = budgets[0].work // steps * steps, num_gradients
            stats.rollout_s = rollout_s / len(members)
        self._give_back()
        return all_stats

    def _take(self, members: Sequence[Member], budgets: Sequence[Budget]) -> None:
        """Begin the round as every member would, from what each has saved."""
        self._members = [member for member in members if isinstance(member, DQN)]
        self._generators = Generators([budget.generator for budget in budgets])
        for member, generator in zip(self._members, self._generators.members, strict=True):
            member.start(generator)
        states = [member.get_progress() for member in self._members]
        size = self._params.shape[1]
        for row, state in enumerate(states):
            self._params[row], self._target_params[row] = state["params"][:size], state["target"]
        self._optimiser.set_states([state["optimiser"] for state in states])
        self._rollout.set_state(joined([state["rollout"] for state in states]))
        self._rollout.begin_round(self._generators)
        self._steps = int(states[0]["steps"])

    def _give_back(self) -> None:
        """Leave with every member what it would have come to alone."""
        rollouts = parted(self._rollout.get_state(), len(self._members))
        counts = {"steps": self._steps, "targets": self._steps // self._settings.target_every}
        optimisers = self._optimiser.get_states()
        for row, member in enumerate(self._members):
            params, target = self._params[row], self._target_params[row]
            both = np.concatenate([params, target]) if self._settings.federate_target else params
            own = {"params": both, "target": target, "optimiser": optimisers[row], "rollout": rollouts[row]}
            member.set_progress({**own, **counts})

    def _act(self, all_stats: Sequence[TrainStats]) -> float:
        """Make the steps up to the next gradient, which every member remembers; return the seconds."""
        started = perf_counter()
        self._policy.epsilon.fill(linear_epsilon(self._settings, self._steps))
        self._rollout.collect(self._stack, self._generators)
        for env, total, length in self._rollout.numbered_episodes():
            all_stats[env // self._worlds.envs_each].episodes.append((total, length))
        self._remember()
        return perf_counter() - started

    def _remember(self) -> None:
        rollout, steps = self._rollout, self._cycle
        discounts = np.multiply(~rollout.terminated, np.float32(self._settings.gamma))
        columns = (
            rollout.observations[:steps],
            rollout.actions,
            rollout.rewards,
            rollout.final_observations,
            discounts,
        )
        by_member = [self._by_member(column) for column in columns]
        for member, *rows in zip(self._members, *by_member, strict=True):
            member.replay.add(Transitions(*rows))

    def _by_member(self, rows: ActionArray) -> ActionArray:
        """Copy what is ordered by steps, (T, A * N, ...), member by member: (A, T * N, ...)."""
        members, rest = len(self._members), rows.shape[2:]
        split = rows.reshape(self._cycle, members, -1, *rest).swapaxes(0, 1)
        return split.reshape(members, -1, *rest)

    def _learn(self, lr: float, sums: DoubleArray) -> None:
        """Follow the gradient of one batch of each member; add to the means of each."""
        n, largest = self._settings.batch_size, self._settings.max_gradient_norm
        for (members, stack), target in zip(self._blocks, self._targets, strict=True):
            batch = self._draw(members)
            error, values = self._differentiate(stack, batch, self._targets_of(stack, target, batch))
            errors = error.reshape(len(stack), n)
            squared = self._settings.loss == "squared"
            sums[members, 0] += np.vecdot(errors, errors) / n if squared else huber(errors).mean(axis=1)
            sums[members, 1] += values.reshape(len(stack), n).sum(axis=1) / n
            sums[members, 2] += self._optimiser.step(members, lr, largest)

    def _draw(self, members: slice) -> Transitions:
        """Draw the batches of a block from its members' memories, one below the other."""
        own = zip(self._members[members], self._generators.members[members], self._parts, strict=False)
        count = 0
        for member, generator, part in own:
            member.replay.draw(generator, part)
            count += 1
        return _rows(self._batch, slice(count * self._settings.batch_size))

    def _targets_of(self, stack: MLPStack, target: MLPStack, batch: Transitions) -> FloatVector:
        """See `DQN._targets_of`."""
        settings, chosen = self._settings, self._chosen[: len(batch.rewards)]
        following = action_values(settings, _forward(target, batch.next_observations))
        if not settings.double:
            return bootstrapped(batch, np.maximum.reduce(following, axis=0))
        best = action_values(settings, _forward(stack, batch.next_observations)).argmax(axis=0)
        return bootstrapped(batch, following[best, chosen])

    def _differentiate(
        self, stack: MLPStack, batch: Transitions, targets: FloatVector
    ) -> tuple[FloatVector, FloatVector]:
        """Fill the gradients of a block with those of its mean losses; return errors and values."""
        settings, chosen = self._settings, self._chosen[: len(targets)]
        outputs = _forward(stack, batch.observations)
        values: FloatVector = action_values(settings, outputs)[batch.actions, chosen]
        error: FloatVector = values - targets
        d_outputs = np.empty_like(outputs)
        spread(settings, slopes(settings, error, settings.batch_size), batch.actions, chosen, d_outputs)
        stack.backward(d_outputs.reshape(len(outputs), len(stack), -1), stack.free)
        return error, values

    def _renew_targets(self) -> None:
        """Move the targets by a share of the way to the networks."""
        if self._settings.tau == 1.0:
            self._target_params[:] = self._params
            return
        self._target_params += np.multiply(self._params - self._target_params, self._settings.tau)


def _forward(stack: MLPStack, observations: FloatMatrix) -> FloatMatrix:
    """Compute the outputs, shape (total_outputs, B * n), of the samples of a block's members."""
    outputs = stack.forward(observations.reshape(len(stack), -1, observations.shape[1]))
    return outputs.reshape(len(outputs), -1)


def _rows(transitions: Transitions, rows: slice) -> Transitions:
    return Transitions(*(getattr(transitions, name)[rows] for name in COLUMNS))
