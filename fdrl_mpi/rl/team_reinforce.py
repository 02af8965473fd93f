"""Policy gradients of agents that play together; see `Team`."""

from collections.abc import Sequence
from time import perf_counter

import numpy as np

from fdrl_mpi.arrays import BoolVector, FloatMatrix
from fdrl_mpi.rl.distributions import Distribution, distribution_of
from fdrl_mpi.rl.episodes import EpisodeBatch, EpisodeSampler, joined
from fdrl_mpi.rl.hyperparameters import ReinforceConfig
from fdrl_mpi.rl.learner import Budget, TrainStats
from fdrl_mpi.rl.model import PolicyModel
from fdrl_mpi.rl.reinforce import Reinforce
from fdrl_mpi.rl.rollout import Draws
from fdrl_mpi.rl.stack import MLPStack
from fdrl_mpi.rl.team import Generators, GroupedEnvironment, Member, Worlds


class ReinforceTeam:
    """A learners whose episodes are played in one vector of environments.

    Each follows its own gradient: a batch of episodes is long enough to be worth calls of its own.

    Parameters
    ----------
    settings : ReinforceConfig
    model : PolicyModel
        Like that of every member.
    worlds : Worlds
    """

    def __init__(self, settings: ReinforceConfig, model: PolicyModel, worlds: Worlds) -> None:
        self._worlds, self._waves = worlds, max(settings.batch_episodes // worlds.envs_each, 1)
        shape = model.network.shape
        self._params: FloatMatrix = np.zeros((worlds.num_members, MLPStack.size(shape)), np.float32)
        self._stack = MLPStack(shape, self._params, self._params)
        self._sampler = _TeamSampler(worlds, distribution_of(worlds.action_spec), settings.horizon)

    @staticmethod
    def objection(settings: ReinforceConfig, model: PolicyModel, envs_each: int) -> str:
        """See `Team.objection`."""
        return "actions are real numbers" if model.distribution.num_free else ""

    def train(
        self, members: Sequence[Member], budgets: Sequence[Budget], environment: GroupedEnvironment
    ) -> list[TrainStats]:
        """See `Team.train`."""
        self._worlds.enter(environment)
        learners = [member for member in members if isinstance(member, Reinforce)]
        all_stats = [TrainStats() for _ in members]
        all_sums = np.zeros((len(members), len(Reinforce.means)))
        generators = [budget.generator for budget in budgets]
        num_gradients = budgets[0].work // (self._waves * self._worlds.envs_each)
        for _ in range(num_gradients):
            batches = self._play(learners, generators, all_stats)
            for learner, batch, sums in zip(learners, batches, all_sums, strict=True):
                learner.follow(batch, budgets[0].lr, sums)
        for stats, means in zip(all_stats, all_sums / max(num_gradients, 1), strict=True):
            stats.gradient_steps = num_gradients
            stats.means = dict(zip(Reinforce.means, means.tolist(), strict=True))
        return all_stats

    def _play(
        self,
        learners: Sequence[Reinforce],
        generators: Sequence[np.random.Generator],
        all_stats: Sequence[TrainStats],
    ) -> list[EpisodeBatch]:
        """Play the episodes of one gradient of every member, and count them."""
        started = perf_counter()
        self._params[:] = [learner.params for learner in learners]
        waves = [self._sampler.play(self._stack, generators) for _ in range(self._waves)]
        batches = [joined(list(own)) for own in zip(*waves, strict=True)]
        share_s = (perf_counter() - started) / len(learners)
        for stats, batch in zip(all_stats, batches, strict=True):
            stats.rollout_s += share_s
            stats.episodes += batch.finished()
            stats.env_steps += len(batch.rewards)
        return batches


class _TeamSampler(EpisodeSampler):
    """Plays one episode in every environment of all members.

    Whoever has played all of his draws no more, as if he had stopped.
    """

    _environment: Worlds

    def __init__(self, worlds: Worlds, distribution: Distribution, horizon: int) -> None:
        super().__init__(worlds, distribution, horizon)
        self._idle = np.random.default_rng(0)  # nobody looks at what those do who have stopped

    def play(self, stack: MLPStack, generators: Sequence[np.random.Generator]) -> list[EpisodeBatch]:
        """Play with the policies of `stack`, each with its own generator; return a batch of each member."""
        everything = self.sample(stack, Generators(list(generators)))
        lengths = everything.lengths.reshape(self._environment.num_members, -1)
        ends = np.cumsum(lengths.sum(axis=1)).tolist()
        batches = []
        for own, start, end in zip(lengths, [0, *ends], ends, strict=False):
            rows = slice(start, end)
            columns = everything.observations[rows], everything.actions[rows], everything.rewards[rows]
            batches.append(EpisodeBatch(*columns, own))
        return batches

    def _leave(self, active: BoolVector, generator: Draws) -> None:
        playing = active.reshape(self._environment.num_members, -1).any(axis=1)
        for member in np.flatnonzero(~playing).tolist():
            generator.members[member] = self._idle
