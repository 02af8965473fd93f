"""Other people's SAC with the same hyperparameters: CleanRL's loop, stable-baselines3.

*CleanRL* is a reconstruction of its `sac_continuous_action.py` for gymnasium 1.x, written from knowledge of
its structure: the same calls into gymnasium, torch and stable-baselines3's replay buffer in the same
order, cut into methods so that training can stop and go on. Left out: the command line, TensorBoard (nine
scalars every hundred steps), the lines it prints, and videos.
"""

from itertools import chain
from typing import Any

import numpy as np
import torch
from cleanrl_peer import CPU, CleanRLPeer
from clocks import Clock
from numpy.typing import NDArray
from off_policy_peers import greedy_returns
from off_policy_settings import SACSettings
from stable_baselines3 import SAC
from stable_baselines3.common.env_util import make_vec_env
from torch import Tensor, nn, optim
from torch.distributions import Normal
from torch.nn.functional import mse_loss, relu

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0
SMALLEST_SLOPE = 1e-6


class Critic(nn.Module):
    """Value of an observation and an action, by two hidden layers."""

    def __init__(self, observation_size: int, action_size: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.first = nn.Linear(observation_size + action_size, hidden[0])
        self.second = nn.Linear(*hidden)
        self.last = nn.Linear(hidden[1], 1)

    def forward(self, observations: Tensor, actions: Tensor) -> Tensor:
        units = torch.cat([observations, actions], 1)
        units = relu(self.first(units))
        units = relu(self.second(units))
        return self.last(units)


class Actor(nn.Module):
    """A Gaussian squashed into the bounds of the actions, by two hidden layers."""

    scale: Tensor
    middle: Tensor

    def __init__(
        self,
        observation_size: int,
        low: NDArray[np.float32],
        high: NDArray[np.float32],
        hidden: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.first = nn.Linear(observation_size, hidden[0])
        self.second = nn.Linear(*hidden)
        self.mean = nn.Linear(hidden[1], len(low))
        self.log_std = nn.Linear(hidden[1], len(low))
        self.register_buffer("scale", torch.tensor((high - low) / 2.0, dtype=torch.float32))
        self.register_buffer("middle", torch.tensor((high + low) / 2.0, dtype=torch.float32))

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        units = relu(self.first(observations))
        units = relu(self.second(units))
        mean, share = self.mean(units), torch.tanh(self.log_std(units))
        return mean, LOG_STD_MIN + 0.5 * (LOG_STD_MAX - LOG_STD_MIN) * (share + 1)

    def act(self, observations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Draw actions; give them, their log-densities and the greedy actions."""
        mean, log_std = self(observations)
        normal = Normal(mean, log_std.exp())
        drawn = normal.rsample()
        squashed = torch.tanh(drawn)
        log_density = normal.log_prob(drawn)
        log_density -= torch.log(self.scale * (1 - squashed.pow(2)) + SMALLEST_SLOPE)
        greedy = torch.tanh(mean) * self.scale + self.middle
        return squashed * self.scale + self.middle, log_density.sum(1, keepdim=True), greedy


class CleanRLSAC(CleanRLPeer[SACSettings]):
    """CleanRL's `sac_continuous_action.py`, reconstructed; see `CleanRLPeer`."""

    def _make_networks(self) -> None:
        actions, hidden = self._envs.single_action_space, self._settings.hidden
        observation_size, action_size = self._envs.single_observation_space.shape[0], actions.shape[0]
        self._actor = Actor(observation_size, actions.low, actions.high, hidden)
        self._critics = [Critic(observation_size, action_size, hidden) for _ in range(2)]
        self._targets = [Critic(observation_size, action_size, hidden) for _ in range(2)]
        for target, critic in zip(self._targets, self._critics, strict=True):
            target.load_state_dict(critic.state_dict())
        self._make_optimisers()

    def _make_optimisers(self) -> None:
        settings = self._settings
        weights = chain.from_iterable(critic.parameters() for critic in self._critics)
        self._critic_optimiser = optim.Adam(list(weights), lr=settings.critic_lr)
        self._actor_optimiser = optim.Adam(list(self._actor.parameters()), lr=settings.lr)
        self._target_entropy = -torch.prod(torch.Tensor(self._envs.single_action_space.shape)).item()
        self._log_alpha = torch.zeros(1, requires_grad=True)
        self._alpha = self._log_alpha.exp().item()
        self._alpha_optimiser = optim.Adam([self._log_alpha], lr=settings.critic_lr)

    def _best(self, observation: NDArray[Any]) -> NDArray[Any]:
        return self._actor.act(torch.Tensor(observation)[None])[2][0].numpy()

    def _choose(self, step: int) -> NDArray[Any]:
        if step < self._settings.learning_starts:
            return self._random_actions()
        drawn, _, _ = self._actor.act(torch.Tensor(self._observations).to(CPU))
        return drawn.detach().cpu().numpy()

    def _learn(self, step: int) -> None:
        settings = self._settings
        data = self._buffer.sample(settings.batch_size)
        self._update_critics(data)
        if step % settings.policy_frequency == 0:
            for _ in range(settings.policy_frequency):
                self._update_actor(data)
        if step % settings.target_every == 0:
            self._follow()

    def _update_critics(self, data: Any) -> None:
        with torch.no_grad():
            actions, log_density, _ = self._actor.act(data.next_observations)
            first, second = (target(data.next_observations, actions) for target in self._targets)
            lower = torch.min(first, second) - self._alpha * log_density
            goals = data.rewards.flatten() + (1 - data.dones.flatten()) * self._settings.gamma * lower.view(
                -1
            )
        values = [critic(data.observations, data.actions).view(-1) for critic in self._critics]
        loss = mse_loss(values[0], goals) + mse_loss(values[1], goals)
        self._critic_optimiser.zero_grad()
        loss.backward()
        self._critic_optimiser.step()

    def _update_actor(self, data: Any) -> None:
        actions, log_density, _ = self._actor.act(data.observations)
        first, second = (critic(data.observations, actions) for critic in self._critics)
        loss = (self._alpha * log_density - torch.min(first, second)).mean()
        self._actor_optimiser.zero_grad()
        loss.backward()
        self._actor_optimiser.step()
        self._update_temperature(data)

    def _update_temperature(self, data: Any) -> None:
        with torch.no_grad():
            _, log_density, _ = self._actor.act(data.observations)
        loss = (-self._log_alpha.exp() * (log_density + self._target_entropy)).mean()
        self._alpha_optimiser.zero_grad()
        loss.backward()
        self._alpha_optimiser.step()
        self._alpha = self._log_alpha.exp().item()

    def _follow(self) -> None:
        tau = self._settings.tau
        for followed, leader in zip(self._targets, self._critics, strict=True):
            for target, online in zip(followed.parameters(), leader.parameters(), strict=True):
                target.data.copy_(tau * online.data + (1 - tau) * target.data)


class StableBaselinesSAC:
    """stable-baselines3's SAC; its one step size is that of the critics here; its actor learns in each step.

    Parameters
    ----------
    settings : SACSettings
    clock : Clock
    seed : int
    """

    name = "stable-baselines3"

    def __init__(self, settings: SACSettings, clock: Clock, seed: int) -> None:
        torch.set_num_threads(1)
        self._settings, self._clock = settings, clock
        self._model = SAC(
            "MlpPolicy",
            make_vec_env(settings.environment_id, n_envs=1, seed=seed),
            learning_rate=settings.critic_lr,
            buffer_size=settings.buffer_size,
            learning_starts=settings.learning_starts,
            batch_size=settings.batch_size,
            tau=settings.tau,
            gamma=settings.gamma,
            train_freq=1,
            gradient_steps=1,
            ent_coef="auto",
            target_update_interval=settings.target_every,
            policy_kwargs={"net_arch": list(settings.hidden)},
            seed=seed,
            device="cpu",
        )

    @property
    def env_steps(self) -> int:
        return int(self._model.num_timesteps)

    def run(self, num_steps: int) -> float:
        """See `OffPolicyPeer.run`."""
        if self.env_steps == 0:
            self._model.learn(self._settings.warm_up_steps, reset_num_timesteps=False)
        started = self._clock.now()
        self._model.learn(num_steps, reset_num_timesteps=False)
        return self._clock.now() - started

    def evaluate(self, episodes: int) -> list[float]:
        """See `OffPolicyPeer.evaluate`."""

        def policy(observation: NDArray[Any]) -> Any:
            return self._model.predict(observation, deterministic=True)[0]

        return greedy_returns(self._settings.environment_id, policy, episodes)
