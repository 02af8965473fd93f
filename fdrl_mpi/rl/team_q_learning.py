"""Tables that are learnt together; see `Team`."""

from collections.abc import Sequence

import numpy as np

from fdrl_mpi.arrays import FloatMatrix, FloatVector, IntVector
from fdrl_mpi.rl.hyperparameters import QLearningConfig
from fdrl_mpi.rl.learner import Budget, TrainStats
from fdrl_mpi.rl.objective import LocalObjective
from fdrl_mpi.rl.q_learning import QLearning
from fdrl_mpi.rl.rollout import Environment
from fdrl_mpi.rl.table import States, TableModel
from fdrl_mpi.rl.team import Generators, GroupedEnvironment, Member, Worlds, joined, parted


class QLearningTeam:
    """Tables of A agents below each other, as one table whose states are pairs (agent, state)."""

    def __init__(self, settings: QLearningConfig, model: TableModel, worlds: Worlds) -> None:
        self._settings, self._worlds = settings, worlds
        self._num_states, self._num_actions = model.table.shape
        self._params: FloatMatrix = np.zeros((worlds.num_members, len(model.params)), np.float32)

    @staticmethod
    def objection(settings: QLearningConfig, model: TableModel, envs_each: int) -> str:
        """See `Team.objection`: there is nothing against it."""
        return ""

    def train(
        self, members: Sequence[Member], budgets: Sequence[Budget], environment: GroupedEnvironment
    ) -> list[TrainStats]:
        """See `Team.train`."""
        worlds, generators = self._worlds, Generators([budget.generator for budget in budgets])
        worlds.enter(environment)
        all_stats = [_stats_of(member) for member in members]
        for member, generator in zip(members, generators.members, strict=True):
            member.start(generator)
        saved = [member.get_state() for member in members]
        self._params[:] = [state["params"] for state in saved]
        model = TableModel("q", len(members) * self._num_states, self._num_actions, self._params.reshape(-1))
        tables = _Tables(self._settings, model, environment, worlds)
        tables.set_state(
            {
                "params": model.params,
                "states": joined([state["states"] for state in saved]),
                "steps": members[0].stage,
            }
        )
        worlds.reseed(generators)
        num_steps = budgets[0].work // worlds.envs_each
        tables.learn(num_steps, Budget(budgets[0].work, budgets[0].lr, generators), all_stats)  # type: ignore[arg-type]
        self._give_back(members, tables)
        return all_stats

    def _give_back(self, members: Sequence[Member], tables: "_Tables") -> None:
        """Leave with every member what it would have come to alone."""
        state = tables.get_state()
        states = parted(state["states"], len(members))
        for member, params, own in zip(members, self._params, states, strict=True):
            member.set_state({"params": params, "states": own, "steps": state["steps"]})


class _Tables(QLearning):
    """What one learner does, with the tables of all members."""

    def __init__(
        self, settings: QLearningConfig, model: TableModel, environment: Environment, worlds: Worlds
    ) -> None:
        self._worlds = worlds
        super().__init__(settings, model, environment, LocalObjective())
        self._counted_envs = worlds.envs_each

    def restart(self) -> None:
        """See `QLearning.restart`."""
        super().restart()
        self._numbered = _NumberedStates(self._environment, self._worlds)
        self._states = self._numbered

    def learn(self, num_steps: int, budget: Budget, all_stats: Sequence[TrainStats]) -> None:
        """Make steps in all environments; every member counts its own."""

        def ended(episodes: list[tuple[float, float]]) -> None:
            for env, episode in zip(self._numbered.ended(), episodes, strict=True):
                all_stats[env // self._worlds.envs_each].episodes.append(episode)

        for stats in all_stats:
            stats.gradient_steps, stats.env_steps = num_steps, num_steps * self._worlds.envs_each
        self._learn(num_steps, budget, ended)

    def _move(self, pairs: IntVector, targets: FloatVector) -> None:
        """Move every entry towards its target; without a second environment of an agent no two are one."""
        if self._worlds.envs_each > 1:
            super()._move(pairs, targets)
            return
        old: FloatVector = self.params.take(pairs)
        self.params[pairs] = old + (self._lr * (targets - old).astype(np.float64)).astype(np.float32)


class _NumberedStates(States):
    """States of all members: those of member m are counted from m times their number."""

    def __init__(self, environment: Environment, worlds: Worlds) -> None:
        super().__init__(environment)
        members = np.arange(worlds.num_members) * environment.observation_size
        self._first: IntVector = np.repeat(members, worlds.envs_each)

    def step(self, actions: IntVector) -> list[tuple[float, float]]:
        """See `States.step`."""
        episodes = super().step(actions)
        self.following += self._first
        self.current += self._first
        return episodes

    def ended(self) -> list[int]:
        """List the environments whose episodes ended in the last step."""
        return np.flatnonzero(self.terminated | self.truncated).tolist()

    def _see(self, observations: FloatMatrix) -> None:
        super()._see(observations)
        self.current += self._first


def _stats_of(member: Member) -> TrainStats:
    """Begin the count of a member with how far its table is from the optimal one."""
    assert isinstance(member, QLearning)
    return TrainStats(means=member.error())
