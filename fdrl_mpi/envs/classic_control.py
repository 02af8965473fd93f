"""What the vectorised physics environments share: contexts, time limit, episode starts, state."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fdrl_mpi.arrays import BoolVector, DoubleArray, FloatMatrix, FloatVector, IntVector, State
from fdrl_mpi.envs.contexts import ContextParameter, Contexts, context_columns
from fdrl_mpi.envs.groups import counts_by_group
from fdrl_mpi.steps import ActionSpec, StepBuffers


class ClassicControl(ABC):
    """Step N copies of one physical system, each with its own parameters.

    A system is its three methods `_draw_starts`, `_advance` and `_observe`. The physical state is float64,
    one row per variable, so that every formula is arithmetic on whole rows.

    Parameters
    ----------
    contexts : sequence of mappings from parameter names to values
        One per environment; the names are those of `context_table`.
    max_episode_steps : int
        Time limit; the step that reaches it is truncated.

    Raises
    ------
    ValueError
        If a context has an unknown name or a value out of range, or the time limit is below 1.
    """

    is_vectorised: ClassVar[bool] = True
    environment_id: ClassVar[str]
    context_table: ClassVar[dict[str, ContextParameter]]
    num_variables: ClassVar[int]
    observation_size: int
    observation_divisor = 1.0
    action_spec: ActionSpec

    def __init__(self, contexts: Contexts, max_episode_steps: int) -> None:
        if max_episode_steps < 1:
            raise ValueError(f"max_episode_steps = {max_episode_steps} must be at least 1")
        self.context = context_columns(self.environment_id, self.context_table, contexts)
        self.num_envs = len(contexts)
        self.observation_shape: tuple[int, ...] = (self.observation_size,)
        self.max_episode_steps = max_episode_steps
        self._physics = np.zeros((self.num_variables, self.num_envs))
        self._episode_steps: IntVector = np.zeros(self.num_envs, np.int64)
        self._done: BoolVector = np.zeros(self.num_envs, np.bool_)
        self._generator = np.random.default_rng(0)
        self._generators: Sequence[np.random.Generator] = ()

    @abstractmethod
    def _draw_starts(self, count: int) -> DoubleArray:
        """Draw the first states of `count` episodes, shape (count, num_variables)."""

    @abstractmethod
    def _advance(self, actions: NDArray[Any], rewards: FloatVector, terminated: BoolVector) -> None:
        """Move `self._physics` by one time step; write rewards and terminal flags."""

    @abstractmethod
    def _observe(self, physics: DoubleArray, observations: FloatMatrix) -> None:
        """Write what is seen of `physics`, shape (num_variables, n), into n rows."""

    def reset(self, generator: np.random.Generator) -> FloatMatrix:
        """See `VectorEnv.reset`."""
        self.reseed(generator)
        return self._reset()

    def reset_groups(self, generators: Sequence[np.random.Generator]) -> FloatMatrix:
        """See `Grouped.reset_groups`."""
        self.reseed_groups(generators)
        return self._reset()

    def reseed(self, generator: np.random.Generator) -> None:
        """See `VectorEnv.reseed`."""
        self._generator, self._generators = generator, ()

    def reseed_groups(self, generators: Sequence[np.random.Generator]) -> None:
        """See `Grouped.reseed_groups`."""
        self._generators = generators

    def step(self, actions: NDArray[Any], out: StepBuffers) -> None:
        """See `VectorEnv.step`."""
        self._advance(actions, out.rewards, out.terminated)
        self._observe(self._physics, out.final_observations)
        out.observation_items[:] = out.final_items
        self._episode_steps += 1
        np.greater_equal(self._episode_steps, self.max_episode_steps, out=out.truncated)
        np.logical_or(out.terminated, out.truncated, out=self._done)
        finished = self._done.nonzero()[0]
        out.any_done = finished.size > 0
        if out.any_done:
            self._start_episodes(finished, out.observations)

    def get_state(self) -> State:
        """See `VectorEnv.get_state`."""
        return {"physics": self._physics.copy(), "episode_steps": self._episode_steps.copy()}

    def set_state(self, state: State) -> FloatMatrix:
        """See `VectorEnv.set_state`."""
        if state["physics"].shape != self._physics.shape:
            raise ValueError(
                f"state holds {state['physics'].shape} (variables, environments), "
                f"{self.environment_id} has {self._physics.shape}"
            )
        self._physics[:] = state["physics"]
        self._episode_steps[:] = state["episode_steps"]
        return self._observations()

    def close(self) -> None:  # noqa: B027
        """See `VectorEnv.close`; nothing is held."""

    def _reset(self) -> FloatMatrix:
        self._physics[:] = self._starts_of(np.arange(self.num_envs)).T
        self._episode_steps[:] = 0
        return self._observations()

    def _starts_of(self, finished: IntVector) -> DoubleArray:
        """Draw a first state for each of these environments, from its own group's generator if it has one."""
        if not self._generators:
            return self._draw_starts(len(finished))
        starts = []
        for group, count in counts_by_group(finished, self.num_envs // len(self._generators)):
            self._generator = self._generators[group]
            starts.append(self._draw_starts(count))
        return np.concatenate(starts)

    def _start_episodes(self, finished: IntVector, observations: FloatMatrix) -> None:
        starts = self._starts_of(finished).T
        self._physics[:, finished] = starts
        self._episode_steps[finished] = 0
        first = np.empty((len(finished), self.observation_size), np.float32)
        self._observe(starts, first)
        observations[finished] = first

    def _observations(self) -> FloatMatrix:
        observations = np.empty((self.num_envs, self.observation_size), np.float32)
        self._observe(self._physics, observations)
        return observations
