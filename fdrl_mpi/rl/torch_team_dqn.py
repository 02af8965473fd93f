"""Deep Q-learners that learn together on a device; see `Team`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fdrl_mpi.rl.dqn import DQN, QModel
from fdrl_mpi.rl.exploration import linear_epsilon
from fdrl_mpi.rl.hyperparameters import DQNConfig
from fdrl_mpi.rl.learner import Budget, TrainStats
from fdrl_mpi.rl.optimiser import SMALL_EPSILON
from fdrl_mpi.rl.team import GroupedEnvironment, Member, Worlds
from fdrl_mpi.rl.torch_draws import CounterDraws, DeviceDraws, OwnDraws
from fdrl_mpi.rl.torch_members import Rollouts, Stopwatch, TorchTeam, model_values, network_objection
from fdrl_mpi.rl.torch_replay import TorchReplay
from fdrl_mpi.rl.torch_stack import TorchStack
from fdrl_mpi.rl.torch_worlds import Experience, TorchWorlds

STRETCH = 32
"""Times of acting and learning for which numbers are drawn at once."""


@dataclass
class _Round:
    """What a round works with, and how many gradients it has made."""

    rollouts: Rollouts
    draws: DeviceDraws
    watch: Stopwatch
    lr: float
    sums: Tensor
    num_gradients: int = 0


class TorchDQNTeam(TorchTeam):
    """`DQN` of all members, whose memories are copied on the device; see `TorchTeam`.

    Parameters
    ----------
    settings : DQNConfig
    model : QModel
        Like that of every member.
    """

    def __init__(
        self,
        settings: DQNConfig,
        model: QModel,
        worlds: Worlds,
        device: str = "cpu",
        draws: type[OwnDraws | CounterDraws] | None = None,
    ) -> None:
        shape, both = model.network.shape, ("params", "target")
        super().__init__(shape, settings.optimiser, SMALL_EPSILON, worlds, device, draws, both)
        self._settings, self._cycle = settings, settings.train_every // worlds.envs_each
        self._target = TorchStack(shape, self._vectors[1])
        self._replay = TorchReplay(
            worlds.num_members, settings.buffer_size, worlds.observation_size, self._device
        )
        self._steps = 0

    @staticmethod
    def objection(settings: DQNConfig, model: QModel, envs_each: int) -> str:
        """See `Team.objection`."""
        if settings.n_step > 1 or settings.prioritised:
            return "learner.n_step and learner.prioritised"
        return network_objection(settings.network)

    @staticmethod
    def memory_bytes(settings: DQNConfig, model: QModel, worlds: Worlds) -> int:
        """Estimate what a team of this size holds on its device when it holds most."""
        shape, members = model.network.shape, worlds.num_members
        models = model_values(shape, settings.optimiser, members, 2)
        replay = TorchReplay.values(members, settings.buffer_size, worlds.observation_size)
        stretch = STRETCH * members * settings.train_every * (2 * worlds.observation_size + 16)
        drawn = 8 * STRETCH * members * settings.gradient_steps * settings.batch_size
        units = sum(shape.hidden) + shape.total_outputs + worlds.observation_size
        return 4 * (models + replay + stretch + drawn + 6 * members * settings.batch_size * units)

    def train(
        self, members: Sequence[Member], budgets: Sequence[Budget], environment: GroupedEnvironment
    ) -> list[TrainStats]:
        """See `Team.train`."""
        learners = [member for member in members if isinstance(member, DQN)]
        worlds, generators = self._enter(environment), [budget.generator for budget in budgets]
        for learner, generator in zip(learners, generators, strict=True):
            learner.start(generator)
        rollouts, sums = self._take(learners, worlds), torch.zeros((len(members), 3), device=self._device)
        draws = self._draws_class(generators, self._num_envs, self._device)
        round = _Round(rollouts, draws, Stopwatch(self._device), budgets[0].lr, sums)
        steps = self._cycle * self._num_envs
        num_cycles = budgets[0].work // steps
        for first in range(0, num_cycles, STRETCH):
            self._go_on(round, min(STRETCH, num_cycles - first))
        all_stats = [TrainStats(num_cycles * steps, round.num_gradients) for _ in members]
        rollouts.count(all_stats)
        epsilon = linear_epsilon(self._settings, self._steps)
        all_means = (sums / max(round.num_gradients, 1)).tolist()
        for stats, means in zip(all_stats, all_means, strict=True):
            stats.rollout_s = round.watch.seconds() / len(members)
            stats.means = {**dict(zip(DQN.means, means, strict=True)), "epsilon": epsilon}
        self._give_back(learners, rollouts)
        return all_stats

    def _take(self, members: Sequence[DQN], worlds: TorchWorlds) -> Rollouts:
        """Begin the round from what each member has saved."""
        states = [member.get_progress() for member in members]
        self._bring(states)
        self._replay.begin([member.replay for member in members])
        self._steps = int(states[0]["steps"])
        return Rollouts(worlds, [state["rollout"] for state in states])

    def _give_back(self, members: Sequence[DQN], rollouts: Rollouts) -> None:
        """Leave with every member what it would have come to alone."""
        counts = {"steps": self._steps, "targets": self._steps // self._settings.target_every}
        own = zip(members, self._brought_back(), rollouts.get_states(), strict=True)
        for member, state, rollout in own:
            params = state["params"]
            if self._settings.federate_target:
                params = np.concatenate([params, state["target"]])
            member.set_progress({**state, **counts, "params": params, "rollout": rollout})
        self._replay.give_back([member.replay for member in members])

    def _choose(self, outputs: Tensor, noise: Tensor) -> Tensor:
        """Choose the best action where `noise`, shape (A, N), names none."""
        return torch.where(noise < 0, outputs.argmax(dim=1), noise)

    def _go_on(self, round: _Round, num_cycles: int) -> None:
        """Alternate a few steps and one time of learning."""
        settings, draws, worlds = self._settings, round.draws, round.rollouts.worlds
        steps, each = num_cycles * self._cycle, settings.gradient_steps
        experience = worlds.empty(steps)
        draws.begin_rollout(steps, worlds.system.num_drawn)
        draws.begin_batches(steps, self._spec.size, num_cycles * each, settings.batch_size)
        for number in range(num_cycles):
            num_targets = self._steps // settings.target_every
            round.watch.start()
            self._act(worlds, draws, experience, slice(number * self._cycle, (number + 1) * self._cycle))
            round.watch.stop()
            if self._replay.filled >= settings.learning_starts:
                for gradient in range(number * each, (number + 1) * each):
                    self._update(draws.places(gradient, self._replay.filled), round.lr, round.sums)
                round.num_gradients += each
            if self._steps // settings.target_every > num_targets:
                self._vectors[1].lerp_(self._vectors[0], settings.tau)
        round.rollouts.tell(experience)

    @torch.no_grad()
    def _act(self, worlds: TorchWorlds, draws: DeviceDraws, experience: Experience, steps: slice) -> None:
        """Make the steps up to the next gradient, and remember them."""
        explored = draws.explored(steps, linear_epsilon(self._settings, self._steps))
        self._play(worlds, draws, explored, experience, steps.start)
        numbers = (
            experience.actions[steps].float(),
            experience.rewards[steps],
            torch.where(experience.terminated[steps], 0.0, self._settings.gamma),
        )
        action, reward, discount = (column[:, :, None] for column in numbers)
        columns = experience.observations[steps], action, reward, experience.following[steps], discount
        self._replay.add(self._by_member(torch.cat(columns, dim=2)))
        self._steps += self._cycle * self._num_envs

    def _update(self, places: Tensor, lr: float, sums: Tensor) -> None:
        """Follow the gradient of one batch of each member; add to `sums`, shape (A, means)."""
        settings = self._settings
        observations, actions, rewards, following, discounts = self._replay.gather(places)
        targets = rewards + discounts * self._values_of(following)
        outputs = action_values(settings, self._stack.forward(observations))
        values = outputs.gather(1, actions.long()[:, None]).squeeze(1)
        error = values - targets
        size = error.abs()
        loss = torch.square(error)
        if settings.loss == "huber":
            loss = torch.where(size < 1.0, 0.5 * loss, size - 0.5)
        means = loss.mean(dim=1)
        self._stack.differentiate(means.sum())
        norms = self._optimiser.step(lr, settings.max_gradient_norm)
        sums += torch.stack([means.detach(), values.detach().mean(dim=1), norms], dim=1)

    @torch.no_grad()
    def _values_of(self, following: Tensor) -> Tensor:
        """Value the next observations, shape (A, n); see `DQN._targets_of`."""
        values = action_values(self._settings, self._target.forward(following))
        if not self._settings.double:
            return values.amax(dim=1)
        best = action_values(self._settings, self._stack.forward(following)).argmax(dim=1)
        return values.gather(1, best[:, None]).squeeze(1)


def action_values(settings: DQNConfig, outputs: Tensor) -> Tensor:
    """Turn networks' outputs, (A, total_outputs, n), into action values; see `dqn.action_values`."""
    if not settings.dueling:
        return outputs
    advantages = outputs[:, :-1]
    return advantages - advantages.mean(dim=1, keepdim=True) + outputs[:, -1:]
