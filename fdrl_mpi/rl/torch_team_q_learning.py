"""Tables that are learnt together on a device, in processes whose kernels lie there; see `Team`."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from fdrl_mpi.arrays import BoolVector, DoubleArray, FloatVector, IntVector, State
from fdrl_mpi.rl.exploration import linear_epsilon
from fdrl_mpi.rl.hyperparameters import QLearningConfig
from fdrl_mpi.rl.learner import Budget, TrainStats
from fdrl_mpi.rl.q_learning import CHUNK, QLearning
from fdrl_mpi.rl.rollout import EpisodeLog
from fdrl_mpi.rl.table import TableModel
from fdrl_mpi.rl.team import GroupedEnvironment, Member, Worlds, joined, parted
from fdrl_mpi.rl.torch_network import settle
from fdrl_mpi.rl.torch_table_draws import CounterTableDraws, OwnTableDraws, TableDraws
from fdrl_mpi.rl.torch_worlds import host_copy


class Process(Protocol):
    """A finite process with known tables; see `envs.finite_mdp.FiniteMDP`."""

    num_envs: int
    num_states: int
    num_actions: int
    max_episode_steps: int
    kernel_index: IntVector

    def tables(self) -> tuple[DoubleArray, DoubleArray, FloatVector, BoolVector]: ...


class TorchProcess:
    """The environments of all members on a device: where they are, and where they go.

    Parameters
    ----------
    process : Process
    device : torch.device

    Attributes
    ----------
    states, following : int64 tensors, shape (A * N,)
        As in `FiniteMDP`: after the last step, and where it led before any new start.
    """

    def __init__(self, process: Process, device: torch.device) -> None:
        successors, starts, rewards, terminal = (torch.from_numpy(table) for table in process.tables())
        self._successors, self._starts = successors.to(device), starts.to(device)
        self._rewards, self._terminal = rewards.to(device), terminal.to(device)
        self._process = process
        self._first_pair = torch.from_numpy(process.kernel_index * len(rewards)).to(device)
        self._episode_steps = torch.zeros(process.num_envs, dtype=torch.int64, device=device)
        self.states, self.following = torch.zeros_like(self._episode_steps), self._episode_steps

    def set_state(self, state: State) -> None:
        """Go on from the state of the environments, as they give it themselves."""
        self.states = torch.from_numpy(state["states"]).to(self.states.device)
        self._episode_steps.copy_(torch.from_numpy(state["episode_steps"]))

    def get_state(self) -> State:
        """Return the state of the environments in host memory."""
        return {"states": host_copy(self.states), "episode_steps": host_copy(self._episode_steps)}

    def step(self, actions: Tensor, draws: TableDraws) -> tuple[Tensor, Tensor, Tensor]:
        """Step all environments; return rewards and the flags of terminated and truncated episodes."""
        pairs = self.states * self._process.num_actions + actions
        rows = self._successors[self._first_pair + pairs]
        self.following = torch.searchsorted(rows, draws.successors()[:, None], right=True).squeeze(1)
        self._episode_steps += 1
        terminated, truncated = (
            self._terminal[self.following],
            self._episode_steps >= self._process.max_episode_steps,
        )
        done = terminated | truncated
        starts = torch.searchsorted(self._starts, draws.starts(done), right=True)
        self.states = torch.where(done, starts, self.following)
        self._episode_steps = torch.where(done, 0, self._episode_steps)
        return self._rewards[pairs], terminated, truncated


class TorchQLearningTeam:
    """Tables of A agents below each other, as one table whose states are pairs (agent, state).

    Parameters
    ----------
    settings : QLearningConfig
    model : TableModel
        Like that of every member.
    worlds : Worlds
    device : str
    draws : class, optional
        `OwnTableDraws` on the CPU, so that members come to what they would come to alone; `CounterTableDraws`
        on CUDA.
    """

    def __init__(
        self,
        settings: QLearningConfig,
        model: TableModel,
        worlds: Worlds,
        device: str = "cpu",
        draws: type[OwnTableDraws | CounterTableDraws] | None = None,
    ) -> None:
        self._settings, self._device, self._num_envs = settings, settle(device), worlds.envs_each
        self._draws_class = draws or (OwnTableDraws if self._device.type == "cpu" else CounterTableDraws)
        self._num_states, self._num_actions = model.table.shape
        self._num_members = worlds.num_members
        size = self._num_members * model.table.size
        self._params = torch.zeros(size, device=self._device)
        members = torch.arange(self._num_members, device=self._device).repeat_interleave(self._num_envs)
        self._first_state = members * self._num_states
        self._process: tuple[object, TorchProcess] | None = None
        self._steps = 0

    @staticmethod
    def objection(settings: QLearningConfig, model: TableModel, envs_each: int) -> str:
        """See `Team.objection`: there is nothing against it."""
        return ""

    @staticmethod
    def memory_bytes(settings: QLearningConfig, model: TableModel, worlds: Worlds) -> int:
        """Estimate what a team of this size holds on its device when it holds most."""
        told = settings.budget * worlds.num_members * 6
        return told + worlds.num_members * (32 * model.table.size + 8 * CHUNK * worlds.envs_each)

    @torch.no_grad()
    def train(
        self, members: Sequence[Member], budgets: Sequence[Budget], environment: GroupedEnvironment
    ) -> list[TrainStats]:
        """See `Team.train`."""
        learners = [member for member in members if isinstance(member, QLearning)]
        all_stats = [TrainStats(means=learner.error()) for learner in learners]
        generators = [budget.generator for budget in budgets]
        for learner, generator in zip(learners, generators, strict=True):
            learner.start(generator)
        process, log = self._enter(environment), EpisodeLog(environment.num_envs)
        self._take(learners, process, log)
        draws = self._draws_class(generators, self._num_envs, self._num_actions, self._device)
        num_steps = budgets[0].work // self._num_envs
        rewards, done = self._learn(process, environment, draws, num_steps, budgets[0].lr)
        for env, total, length in log.add_numbered(host_copy(rewards), host_copy(done)):
            all_stats[env // self._num_envs].episodes.append((total, length))
        for stats in all_stats:
            stats.gradient_steps, stats.env_steps = num_steps, num_steps * self._num_envs
        self._give_back(learners, process, log)
        return all_stats

    def _enter(self, environment: GroupedEnvironment) -> TorchProcess:
        """Find these environments on the device, or bring their tables there."""
        if self._process is None or self._process[0] is not environment:
            self._process = environment, TorchProcess(environment, self._device)  # type: ignore[arg-type]
        return self._process[1]

    def _take(self, members: Sequence[QLearning], process: TorchProcess, log: EpisodeLog) -> None:
        """Begin the round from what each member has saved."""
        saved = [member.get_state() for member in members]
        self._params.copy_(torch.from_numpy(np.concatenate([state["params"] for state in saved])))
        states = joined([state["states"] for state in saved])
        process.set_state(states["environment"])
        log.set_state(states["episodes"])
        self._steps = members[0].stage

    def _give_back(self, members: Sequence[QLearning], process: TorchProcess, log: EpisodeLog) -> None:
        """Leave with every member what it would have come to alone."""
        tables = host_copy(self._params).reshape(len(members), -1)
        state = {"environment": process.get_state(), "episodes": log.get_state()}
        for member, params, own in zip(members, tables, parted(state, len(members)), strict=True):
            member.set_state({"params": params, "states": own, "steps": self._steps})

    def _learn(
        self, process: TorchProcess, environment: Any, draws: TableDraws, num_steps: int, lr: float
    ) -> tuple[Tensor, Tensor]:
        """Make steps in all environments, an update after each; return rewards and ends, (T, A * N)."""
        told = torch.zeros((num_steps, environment.num_envs), device=self._device)
        ended = torch.zeros(told.shape, dtype=torch.bool, device=self._device)
        actions = explored = torch.zeros(0)
        for t in range(num_steps):
            if t % CHUNK == 0:
                explored = self._explored(environment, draws)
            if t == 0:
                actions = self._behave(explored[0], self._first_state + process.states)
            pairs = (self._first_state + process.states) * self._num_actions + actions
            rewards, terminated, truncated = process.step(actions, draws)
            told[t], ended[t] = rewards, terminated | truncated
            actions = self._behave(explored[t % CHUNK + 1], self._first_state + process.states)
            values = self._values(self._first_state + process.following, explored[t % CHUNK + 1])
            targets = torch.where(terminated, 0.0, values * self._settings.gamma) + rewards
            self._move(pairs, targets, lr)
            self._steps += self._num_envs
        return told, ended

    def _explored(self, environment: Any, draws: TableDraws) -> Tensor:
        """Choose an action for each step of a chunk and one more; -1 where it is to be the best."""
        behaviour = self._settings.behaviour
        if behaviour == "fixed":
            fixed = torch.from_numpy(environment.behaviour_actions).to(self._device)
            return fixed.expand(CHUNK + 1, len(fixed))
        epsilon = linear_epsilon(self._settings, self._steps) if behaviour == "epsilon_greedy" else None
        return draws.explored(CHUNK + 1, epsilon)

    def _behave(self, explored: Tensor, states: Tensor) -> Tensor:
        """Choose an action in each of `states`, which count those of all members."""
        if self._settings.behaviour != "epsilon_greedy":
            return explored
        return torch.where(explored < 0, self._table[states].argmax(dim=1), explored)

    @property
    def _table(self) -> Tensor:
        return self._params.view(-1, self._num_actions)

    def _values(self, following: Tensor, explored: Tensor) -> Tensor:
        """Value the states that were reached; see `QLearning._following_values`."""
        settings, rows = self._settings, self._table[following]
        if settings.method == "q_learning":
            return rows.amax(dim=1)
        if settings.method == "sarsa" or settings.behaviour == "fixed":
            return rows.gather(1, self._behave(explored, following)[:, None]).squeeze(1)
        epsilon = 1.0 if settings.behaviour == "uniform" else linear_epsilon(settings, self._steps)
        return (1.0 - epsilon) * rows.amax(dim=1) + epsilon * rows.mean(dim=1)

    def _move(self, pairs: Tensor, targets: Tensor, lr: float) -> None:
        """Move every entry towards the mean of its targets, as often as it was visited."""
        if self._num_envs == 1:
            old = self._params[pairs]
            self._params[pairs] = old + lr * (targets - old)
            return
        size = len(self._params)
        visits = torch.zeros(size, dtype=torch.float64, device=self._device)
        sums = torch.zeros_like(visits)
        visits.index_add_(0, pairs, torch.ones_like(targets, dtype=torch.float64))
        sums.index_add_(0, pairs, targets.double())
        share = 1.0 - (1.0 - lr) ** visits
        mean = sums / visits.clamp(min=1.0)
        self._params += (share * (mean - self._params)).float()
