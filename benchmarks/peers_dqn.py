"""Other people's DQN with the same hyperparameters: CleanRL's loop, stable-baselines3.

*CleanRL* is a reconstruction of its `dqn.py` for gymnasium 1.x, written from knowledge of its structure: the
same calls into gymnasium, torch and stable-baselines3's replay buffer in the same order, cut into methods
so that training can stop and go on. Left out: the command line, TensorBoard (three scalars every hundred
steps), the lines it prints, videos, and saving the model.
"""

import random
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from cleanrl_peer import CPU, CleanRLPeer
from clocks import Clock
from numpy.typing import NDArray
from off_policy_peers import greedy_returns
from off_policy_settings import DQNSettings
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_vec_env
from torch import nn, optim
from torch.nn.functional import mse_loss


class CleanRLDQN(CleanRLPeer[DQNSettings]):
    """CleanRL's `dqn.py`, reconstructed; see `CleanRLPeer`."""

    def _make_networks(self) -> None:
        sizes = (self._envs.single_observation_space.shape[0], *self._settings.hidden)
        num_actions = int(self._envs.single_action_space.n)
        self._online, self._target = _network(sizes, num_actions), _network(sizes, num_actions)
        self._optimiser = optim.Adam(self._online.parameters(), lr=self._settings.lr)
        self._target.load_state_dict(self._online.state_dict())

    def _best(self, observation: NDArray[Any]) -> int:
        return int(self._online(torch.Tensor(observation)).argmax())

    def _choose(self, step: int) -> NDArray[Any]:
        if random.random() < self._settings.epsilon(step):
            return self._random_actions()
        values = self._online(torch.Tensor(self._observations).to(CPU))
        return torch.argmax(values, dim=1).cpu().numpy()

    def _learn(self, step: int) -> None:
        settings = self._settings
        if step % settings.train_every == 0:
            for _ in range(settings.gradient_steps):
                self._update()
        if step % settings.target_every == 0:
            self._follow()

    def _update(self) -> None:
        data = self._buffer.sample(self._settings.batch_size)
        with torch.no_grad():
            best, _ = self._target(data.next_observations).max(dim=1)
            goals = data.rewards.flatten() + self._settings.gamma * best * (1 - data.dones.flatten())
        values = self._online(data.observations).gather(1, data.actions).squeeze()
        loss = mse_loss(goals, values)
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()

    def _follow(self) -> None:
        tau = self._settings.tau
        for target, online in zip(self._target.parameters(), self._online.parameters(), strict=True):
            target.data.copy_(tau * online.data + (1.0 - tau) * target.data)


class StableBaselinesDQN:
    """stable-baselines3's DQN; its loss is Huber's, and it clips gradients, here to no bound.

    Parameters
    ----------
    settings : DQNSettings
    clock : Clock
    seed : int
    """

    name = "stable-baselines3"

    def __init__(self, settings: DQNSettings, clock: Clock, seed: int) -> None:
        torch.set_num_threads(1)
        self._settings, self._clock = settings, clock
        self._model = model = DQN(
            "MlpPolicy",
            make_vec_env(settings.environment_id, n_envs=1, seed=seed),
            learning_rate=settings.lr,
            buffer_size=settings.buffer_size,
            learning_starts=settings.learning_starts,
            batch_size=settings.batch_size,
            tau=settings.tau,
            gamma=settings.gamma,
            train_freq=settings.train_every,
            gradient_steps=settings.gradient_steps,
            target_update_interval=settings.target_every,
            max_grad_norm=np.inf,
            policy_kwargs={"net_arch": list(settings.hidden)},
            seed=seed,
            device="cpu",
        )
        # Its own schedule counts from the steps of one call of `learn`, and training goes on in several.
        model.exploration_schedule = lambda _: settings.epsilon(model.num_timesteps)

    @property
    def env_steps(self) -> int:
        return int(self._model.num_timesteps)

    def run(self, num_steps: int) -> float:
        """See `OffPolicyPeer.run`; whole intervals of `train_every` steps."""
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


def _network(sizes: tuple[int, ...], num_actions: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, units in pairwise(sizes):
        layers += [nn.Linear(inputs, units), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], num_actions))
