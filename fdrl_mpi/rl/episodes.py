"""Acting for whole episodes: every environment plays one from its start to its end."""

from dataclasses import dataclass

import numpy as np

from fdrl_mpi.arrays import ActionArray, BoolVector, DoubleArray, FloatMatrix, FloatVector, IntVector
from fdrl_mpi.rl.distributions import Distribution
from fdrl_mpi.rl.rollout import Actor, Draws, Environment
from fdrl_mpi.steps import StepBuffers

CHUNK = 64
"""Steps for which noise is drawn, and room is made, at once."""


@dataclass(frozen=True)
class EpisodeBatch:
    """The steps of several episodes, one episode after another in time order.

    Attributes
    ----------
    observations : float32 array, shape (n, observation_size)
    actions : array, shape (n, ...)
    rewards : float32 array, shape (n,)
    lengths : int64 array, shape (episodes,)
        They add up to n.
    """

    observations: FloatMatrix
    actions: ActionArray
    rewards: FloatVector
    lengths: IntVector

    def finished(self) -> list[tuple[float, float]]:
        """List (return, length) of each episode."""
        return list(zip(self.totals(self.rewards).tolist(), self.lengths.astype(float).tolist(), strict=True))

    def totals(self, values: FloatVector) -> DoubleArray:
        """Add up a value of each step within each episode, shape (episodes,)."""
        totals: DoubleArray = np.add.reduceat(values, self._starts(), dtype=np.float64)
        return totals

    def rewards_to_go(self, gamma: float) -> FloatVector:
        """Compute ``sum_{t' >= t} gamma^(t' - t) r_t'`` within each episode, shape (n,)."""
        longest, starts = int(self.lengths.max()), self._starts()
        padded = np.zeros((longest + 1, len(starts)), np.float32)
        places = self._places()
        padded[places] = self.rewards
        for t in range(longest - 1, -1, -1):
            padded[t] += np.float32(gamma) * padded[t + 1]
        to_go: FloatVector = padded[places]
        return to_go

    def spread(self, values: FloatVector | DoubleArray) -> FloatVector:
        """Repeat a value of each episode for each of its steps, shape (n,)."""
        return np.repeat(values.astype(np.float32), self.lengths)

    def whitened(self, values: FloatVector, epsilon: float) -> FloatVector:
        """Give the values of each episode zero mean and unit deviation; a lone step becomes 0."""
        starts = self._starts()
        mean = np.add.reduceat(values, starts, dtype=np.float64) / self.lengths
        centred = values - self.spread(mean)
        square = np.add.reduceat(centred * centred, starts, dtype=np.float64)
        deviation = np.sqrt(square / np.maximum(self.lengths - 1, 1))
        return centred / (self.spread(deviation) + np.float32(epsilon))

    def _starts(self) -> IntVector:
        starts: IntVector = np.cumsum(self.lengths) - self.lengths
        return starts

    def _places(self) -> tuple[IntVector, IntVector]:
        """Say at which time, and in which episode, each step was made."""
        episodes = np.repeat(np.arange(len(self.lengths)), self.lengths)
        times = np.arange(len(episodes)) - np.repeat(self._starts(), self.lengths)
        return times, episodes


def joined(batches: list[EpisodeBatch]) -> EpisodeBatch:
    """Put batches behind each other."""
    if len(batches) == 1:
        return batches[0]
    columns = ("observations", "actions", "rewards", "lengths")
    return EpisodeBatch(*(np.concatenate([getattr(batch, name) for batch in batches]) for name in columns))


class EpisodeSampler:
    """Plays one episode in every environment.

    Environments that have finished are stepped on until the last one has, and what they do is thrown away.

    Parameters
    ----------
    environment : Environment
    distribution : Distribution
    horizon : int
        Steps after which an episode is cut.
    """

    def __init__(self, environment: Environment, distribution: Distribution, horizon: int) -> None:
        self._environment, self._distribution, self._horizon = environment, distribution, horizon
        self._observations: FloatMatrix = np.zeros((0, 0, 0), np.float32)
        self._actions: ActionArray = np.zeros(0)
        self._rewards: FloatMatrix = np.zeros((0, 0), np.float32)
        self._buffers: list[StepBuffers] = []
        num_envs = environment.num_envs
        self._terminated: BoolVector = np.zeros(num_envs, np.bool_)
        self._truncated: BoolVector = np.zeros(num_envs, np.bool_)
        self._final: FloatMatrix = np.zeros((num_envs, environment.observation_size), np.float32)
        self._make_room(4 * CHUNK)

    def sample(self, network: Actor, generator: Draws) -> EpisodeBatch:
        """Play with the policy of `network`; all draws come from `generator`."""
        environment, sample = self._environment, self._distribution.sample
        num_envs, free, act = environment.num_envs, network.free, network.actor(environment.num_envs)
        self._observations[0] = environment.reset(generator)
        active, lengths = np.ones(num_envs, np.bool_), np.zeros(num_envs, np.int64)
        for t in range(self._horizon):
            if t % CHUNK == 0:
                noise = self._distribution.noise(generator, CHUNK, num_envs)
                self._make_room(t + CHUNK)
            out = self._buffers[t]
            sample(act(self._observations[t]), free, noise[t % CHUNK], self._actions[t])
            environment.step(self._actions[t], out)
            if out.any_done:
                ended = active & (self._terminated | self._truncated)
                lengths[ended] = t + 1
                active &= ~ended
                if not active.any():
                    break
                self._leave(active, generator)
        lengths[active] = self._horizon
        return self._gathered(lengths)

    def _leave(self, active: BoolVector, generator: Draws) -> None:
        """Hear, after an episode has ended, which environments play on."""

    def _gathered(self, lengths: IntVector) -> EpisodeBatch:
        """Copy the steps of the episodes, one episode after another."""
        longest = int(lengths.max())
        chosen = (np.arange(longest) < lengths[:, None]).nonzero()
        places = chosen[1], chosen[0]
        return EpisodeBatch(self._observations[places], self._actions[places], self._rewards[places], lengths)

    def _make_room(self, steps: int) -> None:
        """Hold at least that many steps; what is there stays."""
        have = len(self._buffers)
        if have >= steps:
            return
        steps = max(steps, 2 * have)
        environment, distribution = self._environment, self._distribution
        old = self._observations, self._actions, self._rewards
        rows = (steps, environment.num_envs)
        self._observations = np.zeros((steps + 1, rows[1], environment.observation_size), np.float32)
        self._actions = np.zeros((*rows, *distribution.action_shape), distribution.action_dtype)
        self._rewards = np.zeros(rows, np.float32)
        if have:
            for new, kept in zip((self._observations, self._actions, self._rewards), old, strict=True):
                new[: len(kept)] = kept
        self._buffers = [
            StepBuffers(
                self._observations[t + 1], self._rewards[t], self._terminated, self._truncated, self._final
            )
            for t in range(steps)
        ]
