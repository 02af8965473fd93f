"""Acting one step at a time in a batch of environments, and remembering every step."""

import numpy as np

from fdrl_mpi.arrays import ActionArray, FloatMatrix, FloatVector, State
from fdrl_mpi.rl.n_step import Transitions
from fdrl_mpi.rl.replay import Replay
from fdrl_mpi.rl.rollout import Environment, EpisodeLog
from fdrl_mpi.steps import StepBuffers


class Experience:
    """What an off-policy learner has seen; episodes go on from one round to the next.

    Parameters
    ----------
    environment : Environment
    replay : Replay
        Takes every transition, with the true next observation where an episode ended.

    Attributes
    ----------
    replay : Replay
    env_steps : int
        Of all rounds since the beginning.
    """

    def __init__(self, environment: Environment, replay: Replay, gamma: float) -> None:
        self.environment, self.replay, self.env_steps = environment, replay, 0
        num_envs = environment.num_envs
        self._gamma = np.float32(gamma)
        self._discounts: FloatVector = np.zeros(num_envs, np.float32)
        self._now, self._next = (
            StepBuffers.allocate(num_envs, environment.observation_size) for _ in range(2)
        )
        self._rewards, self._done = np.empty((0, num_envs), np.float32), np.empty((0, num_envs), np.bool_)
        self._t = 0
        self._episodes = EpisodeLog(num_envs)
        self._started = False

    @property
    def observations(self) -> FloatMatrix:
        """What the policy sees now, shape (num_envs, observation_size)."""
        return self._now.observations

    def begin_round(self, generator: np.random.Generator, num_steps: int) -> None:
        """Let the episodes that start in this round of `num_steps` steps draw from `generator`."""
        if self._started:
            self.environment.reseed(generator)
        else:
            self._now.observations[:] = self.environment.reset(generator)
            self._started = True
        rows, self._t = (num_steps, self.environment.num_envs), 0
        self._rewards, self._done = np.empty(rows, np.float32), np.empty(rows, np.bool_)

    def step(self, actions: ActionArray, remembered: ActionArray) -> None:
        """Step every environment.

        Parameters
        ----------
        actions : array, shape (num_envs, ...)
            As the environments take them.
        remembered : array, shape (num_envs, ...)
            The same actions as the learner wants them back.
        """
        now, out = self._now, self._next
        self.environment.step(actions, out)
        np.multiply(~out.terminated, self._gamma, out=self._discounts)
        self.replay.add(
            Transitions(now.observations, remembered, out.rewards, out.final_observations, self._discounts)
        )
        self._rewards[self._t] = out.rewards
        np.logical_or(out.terminated, out.truncated, out=self._done[self._t])
        self._now, self._next = out, now
        self._t += 1
        self.env_steps += len(out.rewards)

    def finished_episodes(self) -> list[tuple[float, float]]:
        """Return (return, length) of the episodes the round ended; call it once, at its end."""
        return self._episodes.add(self._rewards, self._done) if self._t else []

    def get_state(self) -> State:
        """Return the environments, the unfinished episodes and what is remembered."""
        if not self._started:
            return {}
        return {
            "environment": self.environment.get_state(),
            "episodes": self._episodes.get_state(),
            "replay": self.replay.get_state(),
            "env_steps": self.env_steps,
        }

    def set_state(self, state: State) -> None:
        """Go on from `get_state`."""
        self._started = bool(state)
        if self._started:
            self._now.observations[:] = self.environment.set_state(state["environment"])
            self._episodes.set_state(state["episodes"])
            self.replay.set_state(state["replay"])
            self.env_steps = int(state["env_steps"])
