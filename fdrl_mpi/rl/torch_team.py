"""On-policy learners that learn together on a device: acting, stepping and learning never wait for the host.

A round brings the members' models, moments and environments to the device in one copy each, and back. Members
keep what is theirs in host memory, as learners of the numpy engine.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import inf
from time import perf_counter
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from fdrl_mpi.rl import a2c, ppo
from fdrl_mpi.rl.distributions import distribution_of
from fdrl_mpi.rl.hyperparameters import A2CConfig, OnPolicyConfig, PPOConfig
from fdrl_mpi.rl.learner import Budget, TrainStats
from fdrl_mpi.rl.model import PolicyModel
from fdrl_mpi.rl.network import mlp_layout
from fdrl_mpi.rl.optimiser import EPSILON
from fdrl_mpi.rl.rollout import EpisodeLog
from fdrl_mpi.rl.team import GroupedEnvironment, Member, Worlds, joined, parted
from fdrl_mpi.rl.torch_draws import CounterDraws, DeviceDraws, OwnDraws
from fdrl_mpi.rl.torch_policy import policy_of
from fdrl_mpi.rl.torch_stack import MOMENTS, TorchStack, TorchStackOptimiser
from fdrl_mpi.rl.torch_worlds import Experience, TorchWorlds

Settings = TypeVar("Settings", bound=OnPolicyConfig)
WORLDS_KEPT = 4
"""Squads whose environments' parameters stay on the device."""


class TorchBatch:
    """The samples of a rollout, member by member.

    Attributes
    ----------
    observations : float32 tensor, shape (A, n, observation_size)
    actions : tensor, shape (A, n) or (A, n, size)
    log_probability, advantage, target, value : float32 tensors, shape (A, n)
    """

    def __init__(self, *columns: Tensor) -> None:
        self.columns = columns
        self.observations, self.actions, self.log_probability = columns[:3]
        self.advantage, self.target, self.value = columns[3:]

    def gathered(self, order: Tensor) -> "TorchBatch":
        """Take the samples of each member in another order, or some of them; `order` has shape (A, m)."""
        rows = torch.arange(len(order), device=order.device)[:, None]
        return TorchBatch(*(column[rows, order] for column in self.columns))


class TorchOnPolicyTeam(ABC, Generic[Settings]):
    """A learners on a device; see `Team`.

    Parameters
    ----------
    settings : OnPolicyConfig
    model : PolicyModel
        Like that of every member.
    worlds : Worlds
    device : str
    draws : class, optional
        `OwnDraws` on the CPU, so that members come to what they would come to alone; `CounterDraws` on CUDA,
        where drawing on the host would take longer than learning.
    """

    diagnostics: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        settings: Settings,
        model: PolicyModel,
        worlds: Worlds,
        device: str = "cpu",
        draws: type[OwnDraws | CounterDraws] | None = None,
    ) -> None:
        torch.set_num_threads(1)
        self._settings, self._spec, self._device = settings, worlds.action_spec, torch.device(device)
        self._draws_class = draws or (OwnDraws if self._device.type == "cpu" else CounterDraws)
        self._num_members, self._num_envs = worlds.num_members, worlds.envs_each
        self._samples = settings.num_steps * self._num_envs
        self._distribution = distribution_of(worlds.action_spec)
        self._policy = policy_of(worlds.action_spec)
        shape, self._moments = model.network.shape, MOMENTS[settings.optimiser]
        rows = (1 + len(self._moments), self._num_members, mlp_layout(shape).size)
        self._host = torch.zeros(rows, pin_memory=self._device.type == "cuda")
        self._memory = torch.zeros(rows, device=self._device)
        params, *moments = self._memory
        self._stack = TorchStack(shape, params)
        self._optimiser = TorchStackOptimiser(
            settings.optimiser, params, self._stack.gradient, moments, EPSILON
        )
        self._worlds: dict[int, TorchWorlds] = {}

    @abstractmethod
    def _update(self, batch: TorchBatch, draws: DeviceDraws, lr: float, sums: Tensor) -> int:
        """Learn from one batch, add to `sums`, shape (A, diagnostics); return the optimiser's steps."""

    @classmethod
    def objection(cls, settings: OnPolicyConfig, model: PolicyModel, envs_each: int) -> str:
        """See `Team.objection`."""
        if model.network.shape.convolutions:
            return "learner.network.convolutions"
        if len(model.distribution.action_shape) == 1 and not model.distribution.num_free:
            return "actions of several components"
        return "learner.normalise_rewards" if settings.normalise_rewards else ""

    @classmethod
    def memory_bytes(cls, settings: Settings, model: PolicyModel, worlds: Worlds) -> int:
        """Estimate what a team of this size holds on its device when it holds most."""
        shape, envs = model.network.shape, worlds.num_envs
        copies = 3 + 2 * len(MOMENTS[settings.optimiser])  # model, gradient, a temporary; moments, one each
        models = worlds.num_members * mlp_layout(shape).size * copies
        rollout = settings.num_steps * envs * (4 * worlds.observation_size + 4 * worlds.action_spec.size + 24)
        units = sum(shape.hidden) * shape.num_towers
        passes = 2 * (settings.num_steps + 1) * envs * (units + shape.total_outputs)
        return 4 * (models + rollout + passes)

    def train(
        self, members: Sequence[Member], budgets: Sequence[Budget], environment: GroupedEnvironment
    ) -> list[TrainStats]:
        """See `Team.train`."""
        worlds, log = self._enter(environment), EpisodeLog(environment.num_envs)
        generators = [budget.generator for budget in budgets]
        for member, generator in zip(members, generators, strict=True):
            member.start(generator)
        self._take(members, worlds, log)
        draws = self._draws_class(generators, self._num_envs, self._device)
        sums = torch.zeros((len(members), len(self.diagnostics)), device=self._device)
        num_rollouts, steps, watch, told = budgets[0].work // self._samples, 0, Stopwatch(self._device), []
        for _ in range(num_rollouts):
            watch.start()
            experience = self._act(worlds, draws)
            watch.stop()
            told.append((experience.rewards, experience.terminated | experience.truncated))
            steps = self._update(self._batch(experience), draws, budgets[0].lr, sums)
        rewards, done = (torch.cat(parts).cpu().numpy() for parts in zip(*told, strict=True))
        all_stats = [TrainStats() for _ in members]
        for env, total, length in log.add_numbered(rewards, done):
            all_stats[env // self._num_envs].episodes.append((total, length))
        means = (sums / max(num_rollouts, 1)).tolist()
        for stats, values in zip(all_stats, means, strict=True):
            stats.env_steps, stats.gradient_steps = num_rollouts * self._samples, num_rollouts * steps
            stats.rollout_s = watch.seconds() / len(members)
            stats.means = dict(zip(self.diagnostics, values, strict=True))
        self._give_back(members, worlds, log)
        return all_stats

    def _enter(self, environment: GroupedEnvironment) -> TorchWorlds:
        """Find these environments on the device, or bring their parameters there."""
        known = self._worlds.get(id(environment))
        if known is None or not known.is_of(environment):
            if len(self._worlds) == WORLDS_KEPT:
                del self._worlds[next(iter(self._worlds))]
            known = TorchWorlds(environment, self._device)  # type: ignore[arg-type]
            self._worlds[id(environment)] = known
        return known

    def _take(self, members: Sequence[Member], worlds: TorchWorlds, log: EpisodeLog) -> None:
        """Begin the round from what each member has saved."""
        states, host = [member.get_state() for member in members], self._host.numpy()
        for row, state in enumerate(states):
            host[0, row] = state["params"]
            for moment, name in zip(host[1:], self._moments, strict=True):
                moment[row] = state["optimiser"][name]
        self._memory.copy_(self._host, non_blocking=True)
        self._optimiser.begin([state["optimiser"] for state in states])
        rollouts = joined([state["rollout"] for state in states])
        worlds.set_state(rollouts["environment"])
        log.set_state(rollouts["episodes"])

    def _give_back(self, members: Sequence[Member], worlds: TorchWorlds, log: EpisodeLog) -> None:
        """Leave with every member what it would have come to alone."""
        self._host.copy_(self._memory)
        rollouts = parted({"environment": worlds.get_state(), "episodes": log.get_state()}, len(members))
        rows = zip(
            members, self._host.numpy().swapaxes(0, 1), self._optimiser.counts(), rollouts, strict=True
        )
        for member, (params, *moments), counts, rollout in rows:
            optimiser = {**counts, **dict(zip(self._moments, moments, strict=True))}
            member.set_state({"params": params, "optimiser": optimiser, "rollout": rollout, "scaler": {}})

    @torch.no_grad()
    def _act(self, worlds: TorchWorlds, draws: DeviceDraws) -> Experience:
        """Make a rollout with the policies of all members."""
        settings, system, stack = self._settings, worlds.system, self._stack
        noise = draws.noise(self._distribution, self._spec.size, settings.num_steps)
        draws.begin_rollout(settings.num_steps, system.num_drawn)
        rows = (self._num_members, self._num_envs, system.observation_size)
        experience: Experience | None = None
        for t, step_noise in enumerate(noise):
            seen = worlds.observe()
            actions = self._policy.sample(stack.act(seen.view(rows)), stack.free, step_noise)
            actions = actions.flatten(0, 1)
            experience = experience or worlds.empty(settings.num_steps, actions)
            experience.observations[t] = seen
            worlds.step(t, actions, experience, draws)
        assert experience is not None
        return experience

    @torch.no_grad()
    def _batch(self, experience: Experience) -> TorchBatch:
        """Value a rollout; see `OnPolicyLearner._batch`."""
        settings = self._settings
        observations, actions = self._by_member(experience.observations), self._by_member(experience.actions)
        outputs = self._stack.forward(observations)
        log_probability = self._policy.log_probability(outputs[:, :-1], self._stack.free, actions)
        value = outputs[:, -1].clone()
        following = self._stack.forward(self._by_member(experience.following))[:, -1]
        done = experience.terminated | experience.truncated
        delta = torch.where(experience.terminated, 0.0, self._by_step(following)) * settings.gamma
        delta += experience.rewards - self._by_step(value)
        passed_on = torch.where(done, 0.0, settings.gamma * settings.gae_lambda)
        advantages, later = torch.empty_like(delta), torch.zeros_like(delta[0])
        for t in reversed(range(len(delta))):
            later = advantages[t] = later * passed_on[t] + delta[t]
        advantage = self._by_member(advantages)
        return TorchBatch(observations, actions, log_probability, advantage, advantage + value, value)

    def _by_member(self, rows: Tensor) -> Tensor:
        """Order by members what is ordered by steps: (T, A * N, ...) to (A, T * N, ...)."""
        split = rows.view(len(rows), self._num_members, self._num_envs, *rows.shape[2:])
        return split.transpose(0, 1).reshape(self._num_members, -1, *rows.shape[2:])

    def _by_step(self, values: Tensor) -> Tensor:
        """Undo `_by_member` for single numbers."""
        split = values.view(self._num_members, -1, self._num_envs)
        return split.transpose(0, 1).reshape(-1, self._num_members * self._num_envs)

    def _step(self, loss: Tensor, lr: float) -> Tensor:
        """Step along the gradient of every member's own part of a sum; return the gradients' norms."""
        self._stack.differentiate(loss)
        return self._optimiser.step(lr, self._settings.max_gradient_norm)


class TorchPPOTeam(TorchOnPolicyTeam[PPOConfig]):
    """`PPO` of all members, without an end to the epochs by their divergence."""

    diagnostics = ppo.PPO.diagnostics

    @classmethod
    def objection(cls, settings: OnPolicyConfig, model: PolicyModel, envs_each: int) -> str:
        """See `Team.objection`."""
        if isinstance(settings, PPOConfig) and settings.target_kl > 0.0:
            return "learner.target_kl ends the epochs of each agent elsewhere"
        return super().objection(settings, model, envs_each)

    def _update(self, batch: TorchBatch, draws: DeviceDraws, lr: float, sums: Tensor) -> int:
        settings = self._settings
        for epoch in range(1, settings.num_epochs + 1):
            orders = draws.orders(self._samples).chunk(settings.num_minibatches, dim=1)
            for order in orders:
                loss, measured = self._loss(batch.gathered(order))
                norms = self._step(loss, lr)
                if epoch == settings.num_epochs:
                    sums += torch.stack([*measured, norms], dim=1) / settings.num_minibatches
        return settings.num_minibatches * settings.num_epochs

    def _loss(self, batch: TorchBatch) -> tuple[Tensor, list[Tensor]]:
        """Compute the sum of all members' losses, and each one's diagnostics; see `ppo.differentiate`."""
        settings, policy, stack = self._settings, self._policy, self._stack
        advantage = normalised(batch.advantage) if settings.normalise_advantages else batch.advantage
        outputs = stack.forward(batch.observations)
        log_probability = policy.log_probability(outputs[:, :-1], stack.free, batch.actions)
        entropy = policy.entropy(outputs[:, :-1], stack.free)
        log_ratio = log_probability - batch.log_probability
        ratio, clip = torch.exp(log_ratio), settings.clip_range
        gain = torch.minimum(ratio * advantage, ratio.clamp(1.0 - clip, 1.0 + clip) * advantage)
        error = value_loss(outputs[:, -1], batch, clip if settings.clip_value else inf)
        loss = -gain + settings.value_coefficient * error - settings.entropy_coefficient * entropy
        with torch.no_grad():
            drift = torch.expm1(log_ratio)
            plain = 0.5 * torch.square(outputs[:, -1] - batch.target)
            outside = (drift.abs() > clip).float()
            columns = (-gain, plain, entropy.expand_as(gain), drift - log_ratio, outside)
            measured = [column.mean(dim=1) for column in columns]
        return loss.mean(dim=1).sum(), measured


class TorchA2CTeam(TorchOnPolicyTeam[A2CConfig]):
    """`A2C` of all members."""

    diagnostics = a2c.A2C.diagnostics

    def _update(self, batch: TorchBatch, draws: DeviceDraws, lr: float, sums: Tensor) -> int:
        settings, policy, stack = self._settings, self._policy, self._stack
        advantage = normalised(batch.advantage) if settings.normalise_advantages else batch.advantage
        outputs = stack.forward(batch.observations)
        gain = advantage * policy.log_probability(outputs[:, :-1], stack.free, batch.actions)
        entropy, error = policy.entropy(outputs[:, :-1], stack.free), value_loss(outputs[:, -1], batch, inf)
        loss = -gain + settings.value_coefficient * error - settings.entropy_coefficient * entropy
        norms = self._step(loss.mean(dim=1).sum(), lr)
        with torch.no_grad():
            means = [column.mean(dim=1) for column in (-gain, error, entropy.expand_as(gain))]
            sums += torch.stack([*means, norms], dim=1)
        return 1


def value_loss(value: Tensor, batch: TorchBatch, clip_range: float) -> Tensor:
    """Compute half the squared error of each value, or of the clipped one; see `ppo.value_error`."""
    error = torch.square(value - batch.target)
    if clip_range == inf:
        return 0.5 * error
    clipped = batch.value + (value - batch.value).clamp(-clip_range, clip_range)
    return 0.5 * torch.maximum(error, torch.square(clipped - batch.target))


def normalised(advantages: Tensor) -> Tensor:
    """Give each row zero mean and unit deviation."""
    centred = advantages - advantages.mean(dim=1, keepdim=True)
    squares = torch.square(centred).sum(dim=1, keepdim=True)
    return centred / (torch.sqrt(squares / max(advantages.shape[1] - 1, 1)) + 1e-8)


class Stopwatch:
    """Adds up the seconds between starts and stops, on CUDA without waiting for the device.

    Parameters
    ----------
    device : torch.device
    """

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._marks: list[Any] = []

    def start(self) -> None:
        self._mark()

    def stop(self) -> None:
        self._mark()

    def seconds(self) -> float:
        """Return the sum; the device has done what was asked of it."""
        pairs = zip(self._marks[::2], self._marks[1::2], strict=True)
        if self._is_cuda:
            return float(sum(start.elapsed_time(stop) for start, stop in pairs)) / 1e3
        return float(sum(stop - start for start, stop in pairs))

    def _mark(self) -> None:
        if self._is_cuda:
            self._marks.append(torch.cuda.Event(enable_timing=True))  # type: ignore[no-untyped-call]
            self._marks[-1].record()
        else:
            self._marks.append(perf_counter())
