"""Turn a batch of policy outputs into the actions that gymnasium environments expect."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from numpy.typing import NDArray

from fdrl_mpi.steps import ActionSpec


class DiscreteActions:
    """Integers counted from 0, shifted to the `start` of each environment's space."""

    shape: tuple[int, ...] = ()
    dtype = np.dtype(np.int64)

    def __init__(self, spaces: Sequence[Discrete]) -> None:
        self._starts = [int(space.start) for space in spaces]
        self._is_shifted = any(self._starts)

    def convert(self, actions: NDArray[Any]) -> Sequence[Any]:
        """Give one int per environment from an int64 array, shape (num_envs,)."""
        integers: list[int] = actions.tolist()
        if self._is_shifted:
            return [start + action for start, action in zip(self._starts, integers, strict=True)]
        return integers

    def restore(self, recorded: NDArray[Any]) -> list[Any]:
        """Give back the actions of one environment from an array of converted ones."""
        integers: list[int] = recorded.tolist()
        return integers


class MultiDiscreteActions:
    """Rows of integers counted from 0, shifted to each environment's `start` and shaped like its space.

    A MultiBinary space is one of two choices in every place.
    """

    def __init__(self, spaces: Sequence[MultiDiscrete | MultiBinary]) -> None:
        self.shape: tuple[int, ...] = spaces[0].shape
        self.dtype: np.dtype[Any] = np.dtype(spaces[0].dtype)
        self._starts = np.array([_starts_and_sizes(space)[0] for space in spaces], np.int64)

    def convert(self, actions: NDArray[Any]) -> Sequence[Any]:
        """Give one array per environment from an int64 array, shape (num_envs, components)."""
        shifted = actions + self._starts
        return list(shifted.astype(self.dtype, copy=False).reshape(-1, *self.shape))

    def restore(self, recorded: NDArray[Any]) -> list[Any]:
        """Give back the actions of one environment from an array of converted ones."""
        return list(recorded)


class BoxActions:
    """Flat float32 rows, clipped to each environment's bounds and given the shape of its space."""

    def __init__(self, spaces: Sequence[Box]) -> None:
        self.shape: tuple[int, ...] = spaces[0].shape
        self.dtype: np.dtype[Any] = np.dtype(spaces[0].dtype)
        self._low = np.stack([space.low.ravel() for space in spaces])
        self._high = np.stack([space.high.ravel() for space in spaces])

    def convert(self, actions: NDArray[Any]) -> Sequence[Any]:
        """Give one array per environment from a float32 array, shape (num_envs, action_size)."""
        clipped = np.minimum(np.maximum(actions, self._low), self._high)
        return list(clipped.astype(self.dtype, copy=False).reshape(-1, *self.shape))

    def restore(self, recorded: NDArray[Any]) -> list[Any]:
        """Give back the actions of one environment from an array of converted ones."""
        return list(recorded)


ActionConverter: TypeAlias = DiscreteActions | MultiDiscreteActions | BoxActions


def action_converter(spaces: Sequence[Space[Any]]) -> ActionConverter:
    """Choose the conversion for one action space per environment.

    Raises
    ------
    ValueError
        If the spaces are neither all Discrete of one size, nor all MultiDiscrete of one `nvec`, nor all
        MultiBinary of one shape, nor all floating-point Box of one shape.
    """
    kinds = {_kind(space) for space in spaces}
    if len(kinds) > 1:
        raise ValueError(f"one policy cannot act in different action spaces: {', '.join(sorted(kinds))}")
    if isinstance(spaces[0], Discrete):
        return DiscreteActions([space for space in spaces if isinstance(space, Discrete)])
    if isinstance(spaces[0], MultiDiscrete | MultiBinary):
        return MultiDiscreteActions(
            [space for space in spaces if isinstance(space, MultiDiscrete | MultiBinary)]
        )
    return BoxActions([space for space in spaces if isinstance(space, Box)])


def action_spec(space: Space[Any]) -> ActionSpec:
    """Describe an action space that `action_converter` accepts."""
    if isinstance(space, Discrete):
        first = float(space.start)
        return ActionSpec("discrete", int(space.n), (first,), (first + float(space.n) - 1.0,))
    if isinstance(space, MultiDiscrete | MultiBinary):
        starts, sizes = _starts_and_sizes(space)
        last = tuple(start + size - 1.0 for start, size in zip(starts, sizes, strict=True))
        return ActionSpec("multi_discrete", sum(sizes), tuple(map(float, starts)), last, tuple(sizes))
    assert isinstance(space, Box)
    low, high = (tuple(bound.ravel().tolist()) for bound in (space.low, space.high))
    return ActionSpec("box", len(low), low, high)


def _starts_and_sizes(space: MultiDiscrete | MultiBinary) -> tuple[list[int], list[int]]:
    """Return the first choice and the number of choices of every component, in C order."""
    if isinstance(space, MultiBinary):
        count = int(np.prod(space.shape))
        return [0] * count, [2] * count
    return space.start.ravel().tolist(), space.nvec.ravel().tolist()


def _kind(space: Space[Any]) -> str:
    if isinstance(space, Discrete):
        return f"Discrete({space.n})"
    if isinstance(space, MultiDiscrete):
        return f"MultiDiscrete({space.nvec.tolist()}) of {space.dtype}"
    if isinstance(space, MultiBinary):
        return f"MultiBinary of shape {space.shape}"
    if isinstance(space, Box) and np.issubdtype(space.dtype, np.floating):
        return f"Box of shape {space.shape} and {space.dtype}"
    raise ValueError(
        f"action space {space} cannot be handled; only Discrete, MultiDiscrete, MultiBinary and "
        "floating-point Box can. "
        "Wrap the environment so that it has one of these"
    )
