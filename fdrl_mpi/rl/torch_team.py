"""On-policy learners that learn together on a device: acting and learning never wait for the host."""

from abc import abstractmethod
from collections.abc import Sequence
from math import inf
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from fdrl_mpi.rl import a2c, ppo
from fdrl_mpi.rl.distributions import distribution_of
from fdrl_mpi.rl.hyperparameters import A2CConfig, OnPolicyConfig, PPOConfig
from fdrl_mpi.rl.learner import Budget, TrainStats
from fdrl_mpi.rl.model import PolicyModel
from fdrl_mpi.rl.optimiser import EPSILON
from fdrl_mpi.rl.team import GroupedEnvironment, Member, Worlds
from fdrl_mpi.rl.torch_draws import CounterDraws, DeviceDraws, OwnDraws
from fdrl_mpi.rl.torch_members import Rollouts, Stopwatch, TorchTeam, model_values, network_objection
from fdrl_mpi.rl.torch_policy import policy_objection, policy_of
from fdrl_mpi.rl.torch_worlds import Experience, TorchWorlds

Settings = TypeVar("Settings", bound=OnPolicyConfig)


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


class TorchOnPolicyTeam(TorchTeam, Generic[Settings]):
    """A learners on a device; see `TorchTeam`.

    Parameters
    ----------
    settings : OnPolicyConfig
    model : PolicyModel
        Like that of every member.
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
        super().__init__(model.network.shape, settings.optimiser, EPSILON, worlds, device, draws)
        self._settings, self._samples = settings, settings.num_steps * self._num_envs
        self._distribution, self._policy = distribution_of(self._spec), policy_of(self._spec)

    @abstractmethod
    def _update(self, batch: TorchBatch, draws: DeviceDraws, lr: float, sums: Tensor) -> int:
        """Learn from one batch, add to `sums`, shape (A, diagnostics); return the optimiser's steps."""

    @classmethod
    def objection(cls, settings: OnPolicyConfig, model: PolicyModel, envs_each: int) -> str:
        """See `Team.objection`."""
        return (
            "learner.normalise_rewards"
            if settings.normalise_rewards
            else policy_objection(model) or network_objection(settings.network)
        )

    @classmethod
    def memory_bytes(cls, settings: Settings, model: PolicyModel, worlds: Worlds) -> int:
        """Estimate what a team of this size holds on its device when it holds most."""
        shape, envs = model.network.shape, worlds.num_envs
        models = model_values(shape, settings.optimiser, worlds.num_members)
        rollout = settings.num_steps * envs * (4 * worlds.observation_size + 4 * worlds.action_spec.size + 24)
        units = sum(shape.hidden) * shape.num_towers
        passes = 2 * (settings.num_steps + 1) * envs * (units + shape.total_outputs)
        return 4 * (models + rollout + passes)

    def train(
        self, members: Sequence[Member], budgets: Sequence[Budget], environment: GroupedEnvironment
    ) -> list[TrainStats]:
        """See `Team.train`."""
        worlds, generators = self._enter(environment), [budget.generator for budget in budgets]
        for member, generator in zip(members, generators, strict=True):
            member.start(generator)
        rollouts = self._take(members, worlds)
        draws, watch = self._draws_class(generators, self._num_envs, self._device), Stopwatch(self._device)
        sums = torch.zeros((len(members), len(self.diagnostics)), device=self._device)
        num_rollouts, steps = budgets[0].work // self._samples, 0
        for _ in range(num_rollouts):
            watch.start()
            experience = self._act(worlds, draws)
            watch.stop()
            rollouts.tell(experience)
            steps = self._update(self._batch(experience), draws, budgets[0].lr, sums)
        all_stats = [TrainStats() for _ in members]
        rollouts.count(all_stats)
        means = (sums / max(num_rollouts, 1)).tolist()
        for stats, values in zip(all_stats, means, strict=True):
            stats.env_steps, stats.gradient_steps = num_rollouts * self._samples, num_rollouts * steps
            stats.rollout_s = watch.seconds() / len(members)
            stats.means = dict(zip(self.diagnostics, values, strict=True))
        self._give_back(members, rollouts)
        return all_stats

    def _take(self, members: Sequence[Member], worlds: TorchWorlds) -> Rollouts:
        """Begin the round from what each member has saved."""
        states = [member.get_state() for member in members]
        self._bring(states)
        return Rollouts(worlds, [state["rollout"] for state in states])

    def _give_back(self, members: Sequence[Member], rollouts: Rollouts) -> None:
        """Leave with every member what it would have come to alone."""
        own = zip(members, self._brought_back(), rollouts.get_states(), strict=True)
        for member, state, rollout in own:
            member.set_state({**state, "rollout": rollout, "scaler": {}})

    def _choose(self, outputs: Tensor, noise: Tensor) -> Tensor:
        """See `TorchTeam._choose`."""
        return self._policy.sample(outputs, self._stack.free, noise)

    def _act(self, worlds: TorchWorlds, draws: DeviceDraws) -> Experience:
        """Make a rollout with the policies of all members."""
        num_steps = self._settings.num_steps
        noise = draws.noise(self._distribution, self._spec.size, num_steps)
        draws.begin_rollout(num_steps, worlds.system.num_drawn)
        experience = worlds.empty(num_steps)
        self._play(worlds, draws, noise, experience)
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
