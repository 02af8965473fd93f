"""What CleanRL's DQN and SAC scripts have in common: seeds, an environment, a replay buffer and a loop."""

import random
from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from clocks import Clock
from numpy.typing import NDArray
from off_policy_peers import greedy_returns, one_environment, reached
from off_policy_settings import DQNSettings, SACSettings
from stable_baselines3.common.buffers import ReplayBuffer

CPU = torch.device("cpu")
Settings = TypeVar("Settings", DQNSettings, SACSettings)


class CleanRLPeer(ABC, Generic[Settings]):
    """One script of CleanRL, reconstructed; see `OffPolicyPeer`. An algorithm is its networks and updates.

    Parameters
    ----------
    settings : DQNSettings or SACSettings
    clock : Clock
    seed : int
        Also of the global generators, from which the scripts and their replay buffer draw.
    """

    name = "CleanRL"

    def __init__(self, settings: Settings, clock: Clock, seed: int) -> None:
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        self._settings, self._clock = settings, clock
        self._envs = one_environment(settings.environment_id, seed)
        self._make_networks()
        self._buffer = ReplayBuffer(
            settings.buffer_size,
            self._envs.single_observation_space,
            self._envs.single_action_space,
            CPU,
            handle_timeout_termination=False,
        )
        self._observations, _ = self._envs.reset(seed=seed)
        self.env_steps = 0
        self.episode_returns: list[float] = []

    def run(self, num_steps: int) -> float:
        """See `OffPolicyPeer.run`."""
        if self.env_steps == 0:
            self._advance(self._settings.warm_up_steps)
        started = self._clock.now()
        self._advance(num_steps)
        return self._clock.now() - started

    def evaluate(self, episodes: int) -> list[float]:
        """See `OffPolicyPeer.evaluate`."""

        def policy(observation: NDArray[Any]) -> Any:
            with torch.no_grad():
                return self._best(observation)

        return greedy_returns(self._settings.environment_id, policy, episodes)

    @abstractmethod
    def _make_networks(self) -> None:
        """Make networks and optimisers."""

    @abstractmethod
    def _best(self, observation: NDArray[Any]) -> Any:
        """Choose the greedy action of one observation."""

    @abstractmethod
    def _choose(self, step: int) -> NDArray[Any]:
        """Choose the actions of a step of training."""

    @abstractmethod
    def _learn(self, step: int) -> None:
        """Make the updates that are due after a step, once learning has started."""

    def _advance(self, num_steps: int) -> None:
        for step in range(self.env_steps, self.env_steps + num_steps):
            self._interact(step)
            if step > self._settings.learning_starts:
                self._learn(step)
        self.env_steps += num_steps

    def _interact(self, step: int) -> None:
        actions = self._choose(step)
        following, rewards, terminated, truncated, infos = self._envs.step(actions)
        if "final_info" in infos:
            self.episode_returns.extend(infos["final_info"]["episode"]["r"])
        ends = reached(following, truncated, infos)
        self._buffer.add(self._observations, ends, actions, rewards, terminated, infos)
        self._observations = following

    def _random_actions(self) -> NDArray[Any]:
        envs = self._envs
        return np.array([envs.single_action_space.sample() for _ in range(envs.num_envs)])
