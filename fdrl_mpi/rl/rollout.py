"""Acting: a fixed number of steps in a batch of environments, written in place."""

from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import numpy as np

from fdrl_mpi.arrays import ActionArray, BoolVector, FloatMatrix, FloatVector, State
from fdrl_mpi.steps import ActionSpec, StepBuffers


class Environment(Protocol):
    """The part of a vector of environments that a rollout uses; see `envs.vector`."""

    num_envs: int
    observation_size: int
    observation_shape: tuple[int, ...]
    action_spec: ActionSpec

    def reset(self, generator: np.random.Generator) -> FloatMatrix: ...

    def reseed(self, generator: np.random.Generator) -> None: ...

    def step(self, actions: ActionArray, out: StepBuffers) -> None: ...

    def get_state(self) -> State: ...

    def set_state(self, state: State) -> FloatMatrix: ...


Draws: TypeAlias = Any
"""A numpy Generator; of several agents that learn together, the `Generators` of a team."""


class Actor(Protocol):
    """The part of a `Network` that acting needs."""

    free: FloatVector

    def actor(self, num_rows: int) -> Callable[[FloatMatrix], FloatMatrix]: ...


class Policy(Protocol):
    """The part of a `Distribution` that acting needs."""

    action_dtype: type[np.generic]
    action_shape: tuple[int, ...]

    def noise(self, generator: Draws, steps: int, n: int) -> ActionArray: ...

    def sample(
        self, outputs: FloatMatrix, free: FloatVector, noise: FloatMatrix, actions: ActionArray
    ) -> None: ...


class Rollout:
    """What happened in T steps of N environments; episodes go on from one rollout to the next.

    Attributes
    ----------
    observations : float32 array, shape (T + 1, N, observation_size)
        What the policy saw; row T is what it sees next.
    final_observations : float32 array, shape (T, N, observation_size)
        The true next observation of every step, before any reset.
    actions : array, shape (T, N) or (T, N, ...)
        Of the distribution's dtype and action shape.
    rewards : float32 array, shape (T, N)
    terminated, truncated : bool arrays, shape (T, N)
    """

    def __init__(self, environment: Environment, num_steps: int, policy: Policy) -> None:
        self.environment = environment
        self._policy = policy
        rows = (num_steps, environment.num_envs)
        self.observations = np.zeros(
            (num_steps + 1, environment.num_envs, environment.observation_size), np.float32
        )
        self.final_observations = np.zeros_like(self.observations[1:])
        self.actions: ActionArray = np.zeros((*rows, *policy.action_shape), policy.action_dtype)
        self.rewards = np.zeros(rows, np.float32)
        self.terminated = np.zeros(rows, np.bool_)
        self.truncated = np.zeros(rows, np.bool_)
        self._episodes = EpisodeLog(environment.num_envs)
        self._started = False

    @cached_property
    def _steps(self) -> list[tuple[FloatMatrix, ActionArray, StepBuffers]]:
        """What each step reads and writes: 190 KB for 128 steps, not made for who never acts alone."""
        return [(self.observations[t], self.actions[t], self._buffers(t)) for t in range(self.num_steps)]

    @property
    def num_steps(self) -> int:
        """Steps of each environment, T."""
        return len(self.rewards)

    def begin_round(self, generator: Draws) -> None:
        """Let the episodes that start in this round draw from `generator`."""
        if self._started:
            self.environment.reseed(generator)
        else:
            self.observations[-1] = self.environment.reset(generator)
            self._started = True

    def collect(self, network: Actor, generator: Draws) -> None:
        """Act for T steps with the policy of `network`."""
        step, sample, free = self.environment.step, self._policy.sample, network.free
        act = network.actor(self.environment.num_envs)
        noise = self._policy.noise(generator, self.num_steps, self.environment.num_envs)
        self.observations[0] = self.observations[-1]
        for (observations, actions, out), step_noise in zip(self._steps, noise, strict=True):
            sample(act(observations), free, step_noise, actions)
            step(actions, out)

    def finished_episodes(self) -> list[tuple[float, float]]:
        """Return (return, length) of the episodes the last `collect` ended; call it once after each."""
        return self._episodes.add(self.rewards, self.terminated | self.truncated)

    def numbered_episodes(self) -> list[tuple[int, float, float]]:
        """Do what `finished_episodes` does; return (number of the environment, return, length)."""
        return self._episodes.add_numbered(self.rewards, self.terminated | self.truncated)

    def get_state(self) -> State:
        """Return the environments and the unfinished episodes."""
        if not self._started:
            return {}
        return {"environment": self.environment.get_state(), "episodes": self._episodes.get_state()}

    def set_state(self, state: State) -> None:
        """Go on from `get_state`."""
        self._started = bool(state)
        self._episodes = EpisodeLog(self.environment.num_envs)
        if self._started:
            self.observations[-1] = self.environment.set_state(state["environment"])
            self._episodes.set_state(state["episodes"])

    def _buffers(self, t: int) -> StepBuffers:
        return StepBuffers(
            observations=self.observations[t + 1],
            rewards=self.rewards[t],
            terminated=self.terminated[t],
            truncated=self.truncated[t],
            final_observations=self.final_observations[t],
        )


class EpisodeLog:
    """Returns and lengths of episodes that may span several rollouts."""

    def __init__(self, num_envs: int) -> None:
        self._open_return = np.zeros(num_envs)
        self._open_length = np.zeros(num_envs)

    def add(self, rewards: FloatMatrix, done: BoolVector) -> list[tuple[float, float]]:
        """Append T steps, shape (T, N); return (return, length) of each finished episode, in order."""
        return [(total, length) for _, total, length in self.add_numbered(rewards, done)]

    def add_numbered(self, rewards: FloatMatrix, done: BoolVector) -> list[tuple[int, float, float]]:
        """Do what `add` does; return the environment too: (number, return, length)."""
        if not done.any():
            self._open_return += rewards.sum(axis=0, dtype=np.float64)
            self._open_length += len(rewards)
            return []
        returns = np.cumsum(rewards, axis=0, dtype=np.float64) + self._open_return
        lengths = np.arange(1.0, len(rewards) + 1.0)[:, None] + self._open_length
        closed_return, closed_length = np.zeros_like(self._open_return), np.zeros_like(self._open_length)
        finished = []
        for t, env in np.argwhere(done).tolist():
            total, length = returns[t, env] - closed_return[env], lengths[t, env] - closed_length[env]
            finished.append((env, float(total), float(length)))
            closed_return[env], closed_length[env] = returns[t, env], lengths[t, env]
        self._open_return = returns[-1] - closed_return
        self._open_length = lengths[-1] - closed_length
        return finished

    def add_step(self, rewards: FloatVector, done: BoolVector, any_done: bool) -> list[tuple[float, float]]:
        """Append one step, shape (N,); return (return, length) of each episode that ends with it."""
        self._open_return += rewards
        self._open_length += 1.0
        if not any_done:
            return []
        ended = done.nonzero()[0]
        finished = zip(self._open_return[ended].tolist(), self._open_length[ended].tolist(), strict=True)
        self._open_return[ended] = self._open_length[ended] = 0.0
        return list(finished)

    def get_state(self) -> State:
        return {"return": self._open_return.copy(), "length": self._open_length.copy()}

    def set_state(self, state: State) -> None:
        self._open_return, self._open_length = state["return"].copy(), state["length"].copy()
