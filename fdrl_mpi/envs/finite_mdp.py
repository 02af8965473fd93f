"""Finite Markov decision processes: known kernels, N environments stepped together by table look-up."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fdrl_mpi.arrays import BoolVector, DoubleArray, FloatMatrix, FloatVector, IntVector, State
from fdrl_mpi.envs.contexts import ContextParameter
from fdrl_mpi.envs.groups import counts_by_group
from fdrl_mpi.steps import ActionSpec, StepBuffers

_ROUNDING = 1e-9


class FiniteMDP:
    """Step N copies of a process with S states and A actions, each with one of several kernels.

    A family is a subclass that turns its contexts into the tables below.

    Parameters
    ----------
    kernels : float64 array, shape (D, S, A, S)
        ``kernels[d, s, a, t]`` is the chance that action a leads from s to t in world d.
    kernel_index : int64 array, shape (N,)
        The world of each environment, below D; environments of one world share its kernel.
    rewards_table : float64 array, shape (S, A)
        Reward of action a taken in state s; delivered as float32.
    start_distribution : float64 array, shape (S,)
        Chance of each state to be the first of an episode.
    max_episode_steps : int
        Time limit; the step that reaches it is truncated.
    terminal : bool array, shape (S,), optional
        States that end the episode when they are entered; none by default.

    Attributes
    ----------
    num_states, num_actions : int
        S and A.
    states : int64 array, shape (N,)
        Where every environment is: after a step that ended its episode, the first state of the next one.
        Written in place.
    final_states : int64 array, shape (N,)
        Where the last step led, before any new start. Written in place.
    kernels, kernel_index, rewards_table, start_distribution
        As given.
    observation_order : str
        What an observation is, for those who use a policy elsewhere.

    Raises
    ------
    ValueError
        If the shapes do not fit, a row of probabilities is negative or does not add up to 1, or the time
        limit is below 1.

    Notes
    -----
    An observation is the one-hot row of the state. Each step draws one uniform number per environment and
    inverts the cumulative kernel by bisection, O(N log S); memory is O(D S A S) whatever N.
    """

    is_vectorised: ClassVar[bool] = True
    is_one_hot: ClassVar[bool] = True
    observation_divisor = 1.0
    observation_order: ClassVar[str] = "1 at the number of the state, counted from 0, else 0"
    environment_id: ClassVar[str]
    context_table: ClassVar[dict[str, ContextParameter]]

    def __init__(
        self,
        kernels: DoubleArray,
        kernel_index: IntVector,
        rewards_table: DoubleArray,
        start_distribution: DoubleArray,
        max_episode_steps: int,
        terminal: BoolVector | None = None,
    ) -> None:
        if max_episode_steps < 1:
            raise ValueError(f"max_episode_steps = {max_episode_steps} must be at least 1")
        _check_tables(kernels, kernel_index, rewards_table, start_distribution)
        self.num_envs = len(kernel_index)
        self.num_states, self.num_actions = rewards_table.shape
        self.kernels, self.kernel_index = kernels, kernel_index
        self.rewards_table, self.start_distribution = rewards_table, start_distribution
        self.max_episode_steps = max_episode_steps
        self.observation_size = self.num_states
        self.observation_shape: tuple[int, ...] = (self.num_states,)
        self.action_spec = ActionSpec("discrete", self.num_actions, (0.0,), (self.num_actions - 1.0,))
        self.states: IntVector = np.zeros(self.num_envs, np.int64)
        self.final_states: IntVector = np.zeros(self.num_envs, np.int64)
        self._terminal = terminal
        self._episode_steps: IntVector = np.zeros(self.num_envs, np.int64)
        self._generators: Sequence[np.random.Generator] = [np.random.default_rng(0)]
        self._uniform = np.zeros(self.num_envs)
        self._prepare_tables()

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
        self._generators = [generator]

    def reseed_groups(self, generators: Sequence[np.random.Generator]) -> None:
        """See `Grouped.reseed_groups`."""
        self._generators = generators

    def step(self, actions: NDArray[Any], out: StepBuffers) -> None:
        """See `VectorEnv.step`."""
        out.any_done = self.move(actions, out.rewards, out.terminated, out.truncated)
        self._one_hot.take(self.final_states, axis=0, out=out.final_observations, mode="clip")
        if out.any_done:
            self._one_hot.take(self.states, axis=0, out=out.observations, mode="clip")
        else:
            out.observation_items[:] = out.final_items

    def move(
        self, actions: NDArray[Any], rewards: FloatVector, terminated: BoolVector, truncated: BoolVector
    ) -> bool:
        """Do what `step` does without writing observations: read `states` and `final_states` instead.

        Parameters
        ----------
        actions : int64 array, shape (N,)
        rewards : float32 array, shape (N,)
            Overwritten, like the two below.
        terminated, truncated : bool arrays, shape (N,)

        Returns
        -------
        bool
            Whether an episode ended.
        """
        pairs = self.states * self.num_actions
        pairs += actions
        self._rewards.take(pairs, out=rewards, mode="clip")
        pairs += self._first_pair
        self._draw_successors(pairs)
        self.states[:] = self.final_states
        return self._end_episodes(terminated, truncated)

    def tables(self) -> tuple[DoubleArray, DoubleArray, FloatVector, BoolVector]:
        """Give what a step looks up.

        Returns
        -------
        successors : float64 array, shape (D S A, W)
            `cumulative_rows` of the kernels.
        starts : float64 array, shape (W,)
            The same of the start distribution.
        rewards : float32 array, shape (S A,)
        terminal : bool array, shape (S,)
        """
        nowhere = np.zeros(self.num_states, np.bool_)
        terminal = nowhere if self._terminal is None else self._terminal
        return self._cumulative, self._start_cumulative, self._rewards, terminal

    def get_state(self) -> State:
        """See `VectorEnv.get_state`."""
        return {"states": self.states.copy(), "episode_steps": self._episode_steps.copy()}

    def set_state(self, state: State) -> FloatMatrix:
        """See `VectorEnv.set_state`."""
        states = state["states"]
        if states.shape != self.states.shape or not _are_below(states, self.num_states):
            raise ValueError(
                f"state holds {len(states)} environments in states {states.min()} to {states.max()}, "
                f"{self.environment_id} has {self.num_envs} in states 0 to {self.num_states - 1}"
            )
        self.states[:] = states
        self._episode_steps[:] = state["episode_steps"]
        return self._observations()

    def close(self) -> None:
        """See `VectorEnv.close`; nothing is held."""

    def _prepare_tables(self) -> None:
        num_kernels, num_pairs = len(self.kernels), self.num_states * self.num_actions
        rows = self.kernels.reshape(num_kernels * num_pairs, self.num_states)
        self._cumulative = cumulative_rows(rows)
        self._start_cumulative = cumulative_rows(self.start_distribution[None])[0]
        self._first_pair = self.kernel_index * num_pairs
        self._rewards = self.rewards_table.astype(np.float32).reshape(-1)
        self._one_hot = np.eye(self.num_states, dtype=np.float32)

    def _draw_successors(self, pairs: IntVector) -> None:
        """Invert the cumulative rows `pairs`: step right wherever half a row lies below the number drawn."""
        width = self._cumulative.shape[1]
        cumulative = self._cumulative.reshape(-1)
        uniform = self._draw_numbers()
        first = pairs * width
        position = first.copy()
        half = width // 2
        while half:
            below = cumulative[half - 1 :].take(position, mode="clip") <= uniform
            position += below * half
            half //= 2
        np.subtract(position, first, out=self.final_states)

    def _draw_numbers(self) -> DoubleArray:
        """Draw a number from 0 to 1 for each environment."""
        if len(self._generators) == 1:
            return self._generators[0].random(self.num_envs)
        rows = self._uniform.reshape(len(self._generators), -1)
        for generator, row in zip(self._generators, rows, strict=True):
            generator.random(out=row)
        return self._uniform

    def _reset(self) -> FloatMatrix:
        self.states[:] = self._starts_of(np.arange(self.num_envs))
        self._episode_steps[:] = 0
        return self._observations()

    def _starts_of(self, finished: IntVector) -> IntVector:
        """Draw a first state for each of these environments, from its own group's generator."""
        generators = self._generators
        if len(generators) == 1:
            uniform = generators[0].random(len(finished))
        else:
            groups = counts_by_group(finished, self.num_envs // len(generators))
            uniform = np.concatenate([generators[group].random(count) for group, count in groups])
        starts: IntVector = self._start_cumulative.searchsorted(uniform, side="right")
        return starts

    def _end_episodes(self, terminated: BoolVector, truncated: BoolVector) -> bool:
        self._episode_steps += 1
        np.greater_equal(self._episode_steps, self.max_episode_steps, out=truncated)
        if self._terminal is None:
            terminated.fill(False)
            finished = truncated.nonzero()[0]
        else:
            self._terminal.take(self.final_states, out=terminated, mode="clip")
            finished = (terminated | truncated).nonzero()[0]
        if finished.size:
            self.states[finished] = self._starts_of(finished)
            self._episode_steps[finished] = 0
        return finished.size > 0

    def _observations(self) -> FloatMatrix:
        return self._one_hot[self.states]


def cumulative_rows(rows: DoubleArray) -> DoubleArray:
    """Sum probabilities from the left, for sampling by inversion: draw t where ``sum_{<t} <= u < sum_{<=t}``.

    Parameters
    ----------
    rows : float64 array, shape (n, S)
        Each row adds up to 1 but for rounding.

    Returns
    -------
    float64 array, shape (n, W)
        W is S rounded up to a power of two. From the last possible state on a row is infinite, so that
        rounding never leads to a state of probability 0.
    """
    num_rows, num_states = rows.shape
    width = 1 << (num_states - 1).bit_length()
    cumulative = np.full((num_rows, width), np.inf)
    last_possible = num_states - 1 - (rows[:, ::-1] > 0.0).argmax(axis=1)
    before_last = np.arange(num_states) < last_possible[:, None]
    cumulative[:, :num_states] = np.where(before_last, rows.cumsum(axis=1), np.inf)
    return cumulative


def normalised_rows(weights: DoubleArray) -> DoubleArray:
    """Divide each row by its sum."""
    normalised: DoubleArray = weights / weights.sum(axis=-1, keepdims=True)
    return normalised


def distinct_worlds(environment_id: str, name: str, values: DoubleArray) -> tuple[IntVector, IntVector]:
    """Read a context that numbers worlds.

    Parameters
    ----------
    values : float64 array, shape (N,)
        Whole numbers but for rounding, which a world spread `Evenly` may bring.

    Returns
    -------
    worlds : int64 array, shape (D,)
        The distinct numbers, rising.
    kernel_index : int64 array, shape (N,)
        Which of them each environment has.

    Raises
    ------
    ValueError
        If a value is no whole number.
    """
    numbers = values.round()
    broken = abs(values - numbers) > _ROUNDING
    if broken.any():
        raise ValueError(f"{name} = {values[broken][0]} of {environment_id} must be a whole number")
    worlds, kernel_index = np.unique(numbers.astype(np.int64), return_inverse=True)
    return worlds, kernel_index


def state_values(kernel: DoubleArray, rewards: DoubleArray, gamma: float) -> DoubleArray:
    """Solve ``V = r + gamma P V``, for a process without choices or the choices of one policy.

    Parameters
    ----------
    kernel : float64 array, shape (n, n)
    rewards : float64 array, shape (n,)
    gamma : float
        Discount, in [0, 1).

    Returns
    -------
    float64 array, shape (n,)

    Raises
    ------
    ValueError
        If `gamma` is out of range.
    """
    if not 0.0 <= gamma < 1.0:
        raise ValueError(f"gamma = {gamma} must be in [0, 1)")
    values = np.linalg.solve(np.eye(len(rewards)) - gamma * kernel, rewards)
    return np.asarray(values, np.float64)


def optimal_action_values(kernel: DoubleArray, rewards: DoubleArray, gamma: float) -> DoubleArray:
    """Solve Bellman's optimality equation by policy iteration.

    Parameters
    ----------
    kernel : float64 array, shape (S, A, S)
    rewards : float64 array, shape (S, A)
    gamma : float
        Discount, in [0, 1).

    Returns
    -------
    float64 array, shape (S, A)
        ``Q*(s, a) = r(s, a) + gamma sum_t P(t|s, a) max_b Q*(t, b)``.

    Raises
    ------
    ValueError
        If `gamma` is out of range.

    Notes
    -----
    Terminal states are not known to it. O(S^3) per iteration, of which there are few.

    References
    ----------
    Howard, "Dynamic Programming and Markov Processes", 1960.
    """
    states = np.arange(len(rewards))
    policy = rewards.argmax(axis=1)
    while True:
        values = state_values(kernel[states, policy], rewards[states, policy], gamma)
        action_values: DoubleArray = rewards + gamma * kernel @ values
        gains = action_values.max(axis=1) - action_values[states, policy]
        if (gains <= _ROUNDING * (1.0 + abs(values))).all():
            return action_values
        policy = action_values.argmax(axis=1)


def _check_tables(
    kernels: DoubleArray, kernel_index: IntVector, rewards_table: DoubleArray, starts: DoubleArray
) -> None:
    num_states, num_actions = rewards_table.shape
    if kernels.shape[1:] != (num_states, num_actions, num_states) or starts.shape != (num_states,):
        raise ValueError(
            f"kernels {kernels.shape} and start distribution {starts.shape} do not fit rewards of "
            f"{num_states} states and {num_actions} actions"
        )
    if not kernel_index.size or not _are_below(kernel_index, len(kernels)):
        raise ValueError(f"{len(kernel_index)} environments must each have one of {len(kernels)} kernels")
    for name, rows in (("kernels", kernels), ("start distribution", starts)):
        if rows.min() < 0.0 or not np.allclose(rows.sum(axis=-1), 1.0, rtol=0.0, atol=_ROUNDING):
            sums = rows.sum(axis=-1)
            raise ValueError(
                f"{name}: probabilities from {rows.min():g} on, with sums {sums.min():g} to {sums.max():g}; "
                f"needed: none below 0, sums of 1"
            )


def _are_below(indices: IntVector, count: int) -> bool:
    return bool(indices.min() >= 0 and indices.max() < count)
