"""Policy gradients of agents that play together on a device; see `Team`."""

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from fdrl_mpi.rl.distributions import distribution_of
from fdrl_mpi.rl.episodes import CHUNK
from fdrl_mpi.rl.hyperparameters import ReinforceConfig
from fdrl_mpi.rl.learner import Budget, TrainStats
from fdrl_mpi.rl.model import PolicyModel
from fdrl_mpi.rl.optimiser import SMALL_EPSILON
from fdrl_mpi.rl.reinforce import EPSILON, Reinforce
from fdrl_mpi.rl.team import GroupedEnvironment, Member, Worlds
from fdrl_mpi.rl.torch_draws import CounterDraws, DeviceDraws, OwnDraws
from fdrl_mpi.rl.torch_members import Stopwatch, TorchTeam, model_values, network_objection
from fdrl_mpi.rl.torch_policy import policy_objection, policy_of
from fdrl_mpi.rl.torch_worlds import Experience, TorchWorlds

Wave: TypeAlias = list[Experience]
"""One episode in every environment and what was done after it, in chunks of steps."""


class TorchEpisodes:
    """W episodes of each of the N environments of A members, as long as the longest of them.

    Parameters
    ----------
    waves : list of Wave
    num_members : int

    Attributes
    ----------
    is_valid : bool tensor, shape (T, W, A, N)
        Whether the episode was under way.
    rewards : float32 tensor, shape (T, W, A, N)
        0 after its end.
    """

    def __init__(self, waves: list[Wave], num_members: int) -> None:
        self._waves = waves
        longest = max(sum(len(chunk.rewards) for chunk in wave) for wave in waves)
        first = waves[0][0].rewards
        self.rewards = torch.zeros((longest, len(waves), first.shape[1]), device=first.device)
        self.is_valid = torch.zeros_like(self.rewards, dtype=torch.bool)
        for number, wave in enumerate(waves):
            done = torch.cat([chunk.terminated | chunk.truncated for chunk in wave])
            ended_before = done.cumsum(dim=0) - done.long()
            self.is_valid[: len(done), number] = ended_before == 0
            self.rewards[: len(done), number] = torch.cat([chunk.rewards for chunk in wave])
        self.rewards.mul_(self.is_valid)
        by_member = (longest, len(waves), num_members, -1)
        self.rewards, self.is_valid = self.rewards.view(by_member), self.is_valid.view(by_member)

    def chunks(self) -> Iterator[tuple[Experience, slice, int]]:
        """Give chunk by chunk what was done, and at which steps of which wave."""
        for number, wave in enumerate(self._waves):
            start = 0
            for chunk in wave:
                steps = slice(start, start + len(chunk.rewards))
                yield chunk, steps, number
                start = steps.stop

    def finished(self) -> Tensor:
        """Compute return and length of each episode, shape (2, A, W * N), float64."""
        told = torch.stack([self.rewards.sum(dim=0, dtype=torch.float64), self.is_valid.sum(dim=0).double()])
        return told.transpose(1, 2).flatten(2)

    def credits(self, settings: ReinforceConfig) -> Tensor:
        """Compute `Reinforce.credits`, shape (T, W, A, N)."""
        credits = self.rewards.clone()
        for t in reversed(range(len(credits) - 1)):
            credits[t].add_(credits[t + 1], alpha=settings.gamma)
        if settings.credit == "return":
            credits = credits[:1].expand_as(credits)
        if settings.baseline == "episode":
            return self._whitened(credits, (0,))
        return self._whitened(credits, (0, 1, 3)) if settings.baseline == "batch" else credits

    def weights(self, settings: ReinforceConfig) -> Tensor:
        """Say what each step counts in the mean of its member, shape (T, W, A, N): nothing after the end."""
        if settings.mean_over == "episodes":
            return self.is_valid / float(self.rewards[0, :, 0].numel())
        return self.is_valid / self.is_valid.sum(dim=(0, 1, 3), keepdim=True).float()

    def _whitened(self, values: Tensor, dims: tuple[int, ...]) -> Tensor:
        """Give what is valid along these axes zero mean and unit deviation; one value alone becomes 0."""
        count = self.is_valid.sum(dim=dims, keepdim=True)
        mean = (values * self.is_valid).sum(dim=dims, keepdim=True, dtype=torch.float64) / count
        centred = values - mean.float()
        square = (torch.square(centred) * self.is_valid).sum(dim=dims, keepdim=True, dtype=torch.float64)
        deviation = torch.sqrt(square / (count - 1).clamp(min=1)).float()
        return centred / (deviation + EPSILON)


class TorchReinforceTeam(TorchTeam):
    """`Reinforce` of all members; see `TorchTeam`.

    Whether any episode is still under way is asked once in `CHUNK` steps; what comes after an episode's end
    counts nothing.

    Parameters
    ----------
    settings : ReinforceConfig
    model : PolicyModel
        Like that of every member.
    """

    def __init__(
        self,
        settings: ReinforceConfig,
        model: PolicyModel,
        worlds: Worlds,
        device: str = "cpu",
        draws: type[OwnDraws | CounterDraws] | None = None,
    ) -> None:
        super().__init__(model.network.shape, settings.optimiser, SMALL_EPSILON, worlds, device, draws)
        self._settings, self._waves = settings, max(settings.batch_episodes // worlds.envs_each, 1)
        self._distribution, self._policy = distribution_of(self._spec), policy_of(self._spec)

    @staticmethod
    def objection(settings: ReinforceConfig, model: PolicyModel, envs_each: int) -> str:
        """See `Team.objection`."""
        return policy_objection(model) or network_objection(settings.network)

    @staticmethod
    def memory_bytes(settings: ReinforceConfig, model: PolicyModel, worlds: Worlds) -> int:
        """Estimate what a team of this size holds on its device when no episode ends before the horizon."""
        shape, envs = model.network.shape, worlds.num_envs
        models = model_values(shape, settings.optimiser, worlds.num_members)
        waves = max(settings.batch_episodes // worlds.envs_each, 1)
        step = worlds.observation_size + 2 * worlds.action_spec.size + 16
        units = sum(shape.hidden) * shape.num_towers + shape.total_outputs
        return 4 * (models + envs * (waves * settings.horizon * step + 4 * CHUNK * units))

    def train(
        self, members: Sequence[Member], budgets: Sequence[Budget], environment: GroupedEnvironment
    ) -> list[TrainStats]:
        """See `Team.train`."""
        worlds, watch, told = self._enter(environment), Stopwatch(self._device), []
        self._take(members)
        draws = self._draws_class([budget.generator for budget in budgets], self._num_envs, self._device)
        sums = torch.zeros((len(members), len(Reinforce.means)), device=self._device)
        num_gradients = budgets[0].work // (self._waves * self._num_envs)
        for _ in range(num_gradients):
            watch.start()
            episodes = TorchEpisodes([self._act(worlds, draws) for _ in range(self._waves)], len(members))
            watch.stop()
            told.append(episodes.finished())
            self._update(episodes, budgets[0].lr, sums)
        all_stats = [TrainStats(gradient_steps=num_gradients) for _ in members]
        counted = torch.cat(told, dim=2).permute(1, 2, 0).tolist()
        means = (sums / max(num_gradients, 1)).tolist()
        for stats, finished, values in zip(all_stats, counted, means, strict=True):
            stats.episodes = [(total, length) for total, length in finished]
            stats.env_steps = int(sum(length for _, length in finished))
            stats.rollout_s = watch.seconds() / len(members)
            stats.means = dict(zip(Reinforce.means, values, strict=True))
        self._give_back(members)
        return all_stats

    def _take(self, members: Sequence[Member]) -> None:
        """Begin the round from what each member has saved."""
        self._bring([member.get_state() for member in members])

    def _give_back(self, members: Sequence[Member]) -> None:
        """Leave with every member what it would have come to alone."""
        for member, state in zip(members, self._brought_back(), strict=True):
            member.set_state(state)

    def _choose(self, outputs: Tensor, noise: Tensor) -> Tensor:
        """See `TorchTeam._choose`."""
        return self._policy.sample(outputs, self._stack.free, noise)

    def _act(self, worlds: TorchWorlds, draws: DeviceDraws) -> Wave:
        """Play until an episode has ended in every environment, or the horizon is reached."""
        worlds.begin_episodes(draws)
        is_under_way, chunks = torch.ones(worlds.system.num_envs, dtype=torch.bool, device=self._device), []
        for start in range(0, self._settings.horizon, CHUNK):
            if not is_under_way.any():
                break
            noise = draws.noise(self._distribution, self._spec.size, CHUNK)
            draws.begin_rollout(CHUNK, worlds.system.num_drawn)
            chunk = worlds.empty(min(CHUNK, self._settings.horizon - start), keeps_following=False)
            self._play(worlds, draws, noise[: len(chunk.rewards)], chunk)
            is_under_way &= ~(chunk.terminated | chunk.truncated).any(dim=0)
            chunks.append(chunk)
        return chunks

    def _update(self, episodes: TorchEpisodes, lr: float, sums: Tensor) -> None:
        """Step along the gradient of every member's episodes; add to `sums`, shape (A, means)."""
        settings = self._settings
        credits, weights = episodes.credits(settings), episodes.weights(settings)
        for number, (chunk, steps, wave) in enumerate(episodes.chunks()):
            rows = (tensor[steps, wave].flatten(1) for tensor in (credits, weights))
            loss, means = self._loss(chunk, *(self._by_member(row) for row in rows))
            self._stack.differentiate(loss, accumulate=number > 0)
            sums[:, :3] += means
        sums[:, 3] += self._optimiser.step(lr, settings.max_gradient_norm)

    def _loss(self, chunk: Experience, credits: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the sum of all members' losses on a chunk, and its part of each one's first three means.

        See `Reinforce.differentiate`.
        """
        settings, policy, stack = self._settings, self._policy, self._stack
        outputs = stack.forward(self._by_member(chunk.observations))
        acting, error = outputs[:, : stack.shape.num_outputs], torch.zeros_like(credits)
        if settings.baseline == "value":
            error = outputs[:, -1] - credits
            credits = -error.detach()
        log_probability = policy.log_probability(acting, stack.free, self._by_member(chunk.actions))
        entropy = policy.entropy(acting, stack.free).expand_as(credits)
        columns = (-credits * log_probability, 0.5 * torch.square(error), entropy)
        policy_loss, value_loss, bonus = means = [(column * weights).sum(dim=1) for column in columns]
        loss = policy_loss + settings.value_coefficient * value_loss - settings.entropy_coefficient * bonus
        return loss.sum(), torch.stack(means, dim=1).detach()
