"""Several agents that learn together: what stands between their learners and arrays with one more axis.

A team takes what its members' learners saved, learns with all of them at once, and gives each what it would
have saved had it learnt alone: a member may learn alone in one round and in a team in the next.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fdrl_mpi.arrays import ActionArray, DoubleArray, FloatMatrix, IntVector, State
from fdrl_mpi.rl.learner import Budget, Learner, TrainStats
from fdrl_mpi.rl.rollout import Environment
from fdrl_mpi.steps import StepBuffers


class Generators:
    """One generator for each member, that draw as one: of the last axis each fills its own part.

    Stands where a policy draws the noise of a rollout; every member draws what it would alone.
    """

    def __init__(self, members: Sequence[np.random.Generator]) -> None:
        self.members = members

    def standard_exponential(self, size: tuple[int, ...], dtype: type[np.float32]) -> FloatMatrix:
        drawn = np.empty((len(self.members), *self._own(size)), dtype)
        for one, rows in zip(self.members, drawn, strict=True):
            one.standard_exponential(None, dtype, "zig", rows)
        return self._joined(drawn, size)

    def standard_normal(self, size: tuple[int, ...], dtype: type[np.float32]) -> FloatMatrix:
        drawn = np.empty((len(self.members), *self._own(size)), dtype)
        for one, rows in zip(self.members, drawn, strict=True):
            one.standard_normal(None, dtype, rows)
        return self._joined(drawn, size)

    def integers(self, high: int, size: tuple[int, ...]) -> IntVector:
        own = self._own(size)
        return self._joined(np.stack([one.integers(high, size=own) for one in self.members]), size)

    def random(self, size: tuple[int, ...]) -> DoubleArray:
        drawn = np.empty((len(self.members), *self._own(size)))
        for one, rows in zip(self.members, drawn, strict=True):
            one.random(None, np.float64, rows)
        return self._joined(drawn, size)

    def _own(self, size: tuple[int, ...]) -> tuple[int, ...]:
        return (*size[:-1], size[-1] // len(self.members))

    def _joined(self, drawn: NDArray[Any], size: tuple[int, ...]) -> NDArray[Any]:
        """Put the members' draws, (A, ..., n), behind each other on the last axis."""
        return np.moveaxis(drawn, 0, -2).reshape(size)


class GroupedEnvironment(Environment, Protocol):
    """The environments of all members in one vector; see `envs.groups`."""

    def reset_groups(self, generators: Sequence[np.random.Generator]) -> FloatMatrix: ...

    def reseed_groups(self, generators: Sequence[np.random.Generator]) -> None: ...


class Member(Learner, Protocol):
    """A learner that a team can take in."""

    def start(self, generator: np.random.Generator) -> None:
        """Begin a round as `train` does: start episodes where none are under way."""

    @property
    def stage(self) -> int:
        """How far the learner has come, where its schedule depends on it: members of a team agree."""


class Worlds:
    """The environments of all members, behind the interface a rollout uses.

    Where a rollout passes on a generator, it passes on `Generators`.

    Parameters
    ----------
    one : Environment
        With the spaces of every member's.
    num_members, envs_each : int
    """

    step: Callable[[ActionArray, StepBuffers], None]

    def __init__(self, one: Environment, num_members: int, envs_each: int) -> None:
        self.num_members, self.envs_each = num_members, envs_each
        self.num_envs = num_members * envs_each
        self.observation_size, self.observation_shape = one.observation_size, one.observation_shape
        self.action_spec = one.action_spec

    def enter(self, environment: GroupedEnvironment) -> None:
        """Be these environments from now on."""
        assert environment.num_envs == self.num_envs
        self.environment, self.step = environment, environment.step

    def reset(self, generator: Any) -> FloatMatrix:
        return self.environment.reset_groups(generator.members)

    def reseed(self, generator: Any) -> None:
        self.environment.reseed_groups(generator.members)

    def get_state(self) -> State:
        return self.environment.get_state()

    def set_state(self, state: State) -> FloatMatrix:
        return self.environment.set_state(state)


class Team(Protocol):
    """Learners of equal settings that learn together.

    Between two calls it holds nothing that counts: any members may be the next.
    """

    def __init__(self, settings: Any, model: Any, worlds: Worlds, *where: str) -> None: ...

    @staticmethod
    def objection(settings: Any, model: Any, envs_each: int) -> str:
        """Say why learners of these settings had better learn in turn; empty if together."""

    def train(
        self, members: Sequence[Member], budgets: Sequence[Budget], environment: GroupedEnvironment
    ) -> list[TrainStats]:
        """Let every member spend its budget; all budgets have the same work and step size."""


def joined(states: Sequence[State]) -> State:
    """Put the states of equal things behind each other, on the last axis of each of their arrays."""
    return {
        name: joined([state[name] for state in states])
        if isinstance(value, dict)
        else np.concatenate([state[name] for state in states], axis=-1)
        for name, value in states[0].items()
    }


def parted(state: State, num_members: int) -> list[State]:
    """Undo `joined`."""
    parts: list[State] = [{} for _ in range(num_members)]
    for name, value in state.items():
        pieces = (
            parted(value, num_members)
            if isinstance(value, dict)
            else [piece.copy() for piece in np.split(value, num_members, axis=-1)]
        )
        for part, piece in zip(parts, pieces, strict=True):
            part[name] = piece
    return parts
