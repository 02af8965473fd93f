"""Tables: a value for each state, or for each state and action, in one flat vector."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from fdrl_mpi.arrays import BoolVector, DoubleArray, FloatMatrix, FloatVector, IntVector, State
from fdrl_mpi.rl.model import Greedy
from fdrl_mpi.rl.rollout import Environment, EpisodeLog
from fdrl_mpi.steps import StepBuffers


@runtime_checkable
class KnownProcess(Protocol):
    """What tabular learners may know of a finite Markov decision process; see `envs.finite_mdp`."""

    num_states: int
    num_actions: int
    states: IntVector
    final_states: IntVector
    kernels: DoubleArray
    rewards_table: DoubleArray
    start_distribution: DoubleArray

    def move(
        self, actions: IntVector, rewards: FloatVector, terminated: BoolVector, truncated: BoolVector
    ) -> bool: ...


class TableModel:
    """Values of all states and actions, shape (S, A), in one vector; see `Model`.

    Observations are one-hot rows of the state.
    """

    def __init__(self, name: str, num_states: int, num_columns: int, params: FloatVector | None) -> None:
        size = num_states * num_columns
        self.params: FloatVector = np.zeros(size, np.float32) if params is None else params
        self.table: FloatMatrix = self.params.reshape(num_states, num_columns)
        self.pieces: Mapping[str, slice] = {name: slice(0, size)}
        self.groups: Mapping[str, Sequence[str]] = {"actor": [name]}
        self._name = name

    def load(self) -> None:
        """Do nothing: `params` is the table."""

    def store(self) -> None:
        """Do nothing: `params` is the table."""

    def greedy(self, num_rows: int) -> Greedy:
        best = self.table.argmax(axis=1)
        return lambda observations: best[observations.argmax(axis=1)]

    def state_dict(self) -> dict[str, FloatMatrix]:
        return {self._name: self.table.copy()}

    def describe(self) -> dict[str, Any]:
        return {
            "layers": {self._name: list(self.table.shape)},
            "activation": None,
            "greedy_action": "action_low plus the index of the largest entry in the state's row of "
            f"{self._name}, counted from 0",
        }


def check_finite(learner: str, environment: Environment) -> None:
    """Refuse an environment whose states cannot be counted.

    Raises
    ------
    ValueError
        If observations are not one-hot rows.
    """
    if not getattr(environment, "is_one_hot", False):
        raise ValueError(
            f"learner.name = {learner} keeps a table with a row for each state, and this environment's "
            "observations are not the states of a finite process; choose RandomMDP, WindyCliff, TwoState, "
            "RewardProcess or a gymnasium environment with a Discrete observation space, or another learner"
        )


def initial_table(environment: Environment, model: TableModel) -> TableModel:
    """Begin with the values the environment suggests, else with zeros."""
    values = getattr(environment, "initial_values", None)
    model.params[:] = 0.0 if values is None else values.ravel()
    return model


class States:
    """The states of a batch of environments, stepped without observations where the environment can.

    Attributes
    ----------
    current, following : int64 arrays, shape (N,)
        Where each environment is, and where its last step led, before any new start.
    rewards : float32 array, shape (N,)
    terminated, truncated : bool arrays, shape (N,)
    """

    def __init__(self, environment: Environment) -> None:
        num_envs, self._environment = environment.num_envs, environment
        self._process = environment if isinstance(environment, KnownProcess) else None
        self._out = StepBuffers.allocate(num_envs, environment.observation_size)
        self.rewards, self.terminated = self._out.rewards, self._out.terminated
        self.truncated = self._out.truncated
        self.current: IntVector = np.zeros(num_envs, np.int64)
        self.following: IntVector = np.zeros(num_envs, np.int64)
        self._episodes = EpisodeLog(num_envs)
        self._started = False

    def begin_round(self, generator: np.random.Generator) -> None:
        """Let the episodes that start in this round draw from `generator`."""
        if self._started:
            self._environment.reseed(generator)
        else:
            self._see(self._environment.reset(generator))
            self._started = True

    def step(self, actions: IntVector) -> list[tuple[float, float]]:
        """Act in every environment; return (return, length) of each episode that ended."""
        process, out = self._process, self._out
        if process is not None:
            out.any_done = process.move(actions, self.rewards, self.terminated, self.truncated)
            self.following[:], self.current[:] = process.final_states, process.states
        else:
            self._environment.step(actions, out)
            out.final_observations.argmax(axis=1, out=self.following)
            out.observations.argmax(axis=1, out=self.current)
        return self._episodes.add_step(self.rewards, self.terminated | self.truncated, out.any_done)

    def get_state(self) -> State:
        """Return the environments and the unfinished episodes."""
        if not self._started:
            return {}
        return {"environment": self._environment.get_state(), "episodes": self._episodes.get_state()}

    def set_state(self, state: State) -> None:
        """Go on from `get_state`."""
        self._started = bool(state)
        self._episodes = EpisodeLog(self._environment.num_envs)
        if self._started:
            self._see(self._environment.set_state(state["environment"]))
            self._episodes.set_state(state["episodes"])

    def _see(self, observations: FloatMatrix) -> None:
        self.current[:] = observations.argmax(axis=1)
