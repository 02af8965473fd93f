"""What the vectorised physics environments share: contexts, time limit, episode starts, state."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fdrl_mpi.arrays import BoolVector, DoubleArray, FloatMatrix, IntVector, State
from fdrl_mpi.envs.contexts import ContextParameter, Contexts, context_columns
from fdrl_mpi.envs.groups import counts_by_group
from fdrl_mpi.steps import ActionSpec, StepBuffers

Namespace: TypeAlias = Any
"""`Numpy`, or a library with functions of the same names and meanings for its own arrays."""
Array: TypeAlias = Any
"""An array of the namespace in use."""


class Numpy:
    """The functions that a system may use; numpy's own `stack` and `round` take longer for the same."""

    float32, float64 = np.float32, np.float64
    abs, asarray, concatenate, cos = np.abs, np.asarray, np.concatenate, np.cos
    maximum, minimum, round, sin = np.maximum, np.minimum, np.rint, np.sin
    stack, where, zeros_like = np.array, np.where, np.zeros_like


class ClassicControl(ABC):
    """Step N copies of one physical system, each with its own parameters.

    A system is its functions `constants`, `starts`, `advance` and `observe`. The physical state is float64,
    one row per variable, so that every formula is arithmetic on whole rows: of numpy's arrays, or of another
    library's whose functions have the same names (torch), where the system is stepped on a device.

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
    num_drawn: ClassVar[int]
    """Numbers drawn for a first state."""
    start_limits: ClassVar[tuple[float, float]]
    """Of these numbers."""
    observation_size: int
    observation_divisor = 1.0
    action_spec: ActionSpec

    def __init__(self, contexts: Contexts, max_episode_steps: int) -> None:
        if max_episode_steps < 1:
            raise ValueError(f"max_episode_steps = {max_episode_steps} must be at least 1")
        self.context = context_columns(self.environment_id, self.context_table, contexts)
        self.columns = self.constants(self.context)
        self.num_envs = len(contexts)
        self.observation_shape: tuple[int, ...] = (self.observation_size,)
        self.max_episode_steps = max_episode_steps
        self._physics = np.zeros((self.num_variables, self.num_envs))
        self._episode_steps: IntVector = np.zeros(self.num_envs, np.int64)
        self._done: BoolVector = np.zeros(self.num_envs, np.bool_)
        self._generator = np.random.default_rng(0)
        self._generators: Sequence[np.random.Generator] = ()

    @staticmethod
    def constants(context: Mapping[str, Array]) -> dict[str, Array]:
        """Prepare what `advance` takes from the contexts, shape (n,) each."""
        return dict(context)

    @staticmethod
    def starts(xp: Namespace, drawn: Array) -> Array:
        """Turn numbers drawn uniformly, shape (num_drawn, n), into first states, (num_variables, n)."""
        return drawn

    @staticmethod
    @abstractmethod
    def advance(
        xp: Namespace, columns: Mapping[str, Array], physics: Array, actions: Array, noise: Array | float
    ) -> tuple[Array, Array | float, Array | bool]:
        """Compute state, reward and terminal flag one time step later.

        Parameters
        ----------
        xp : Namespace
        columns : mapping of float64 arrays, shape (n,)
            What `constants` made.
        physics : float64 array, shape (num_variables, n)
        actions : array, shape (n,) or (n, size)
        noise : float64 array, shape (n,), or 0.0
            What is drawn in every step, if anything is.

        Returns
        -------
        physics, reward, terminated
            Of the shape of `physics`, and (n,) or one for all.
        """

    @staticmethod
    def observe(xp: Namespace, physics: Array) -> Array:
        """Compute what is seen of `physics`, shape (observation_size, n)."""
        return physics

    @property
    def is_noisy(self) -> bool:
        """Whether something is drawn in every step."""
        return False

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
        self._physics, out.rewards[:], out.terminated[:] = self.advance(
            Numpy, self.columns, self._physics, actions, self._draw_noise()
        )
        out.final_observations[:] = self.observe(Numpy, self._physics).T
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

    def _draw_starts(self, count: int) -> DoubleArray:
        """Draw the first states of `count` episodes, shape (count, num_variables)."""
        drawn = self._generator.uniform(*self.start_limits, (count, self.num_drawn))
        starts: DoubleArray = self.starts(Numpy, drawn.T).T
        return starts

    def _draw_noise(self) -> DoubleArray | float:
        """Draw the noise of one step, shape (n,); 0.0 where there is none."""
        return 0.0

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
        observations[finished] = self.observe(Numpy, starts).T

    def _observations(self) -> FloatMatrix:
        return np.ascontiguousarray(self.observe(Numpy, self._physics).T, np.float32)
