"""Step single gymnasium environments in a plain loop."""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np
from gymnasium import Env, Space
from gymnasium.spaces import Box, Discrete
from gymnasium.spaces.utils import flatdim, flatten
from numpy.typing import NDArray

from fdrl_mpi.arrays import FloatMatrix, State
from fdrl_mpi.envs.contexts import Contexts
from fdrl_mpi.envs.gymnasium_actions import action_converter, action_spec
from fdrl_mpi.steps import StepBuffers

SEED_BOUND = 2**31
LARGEST_BYTE = 255.0


class GymnasiumVector:
    """N gymnasium environments behind the `VectorEnv` interface.

    A Box observation is delivered raveled, any other as `gymnasium.spaces.utils.flatten` encodes it (Discrete
    as one-hot). An image, that is a uint8 Box of three dimensions from 0 to 255, is divided by 255. Every
    episode starts with ``reset(seed=...)``, the seed drawn from the current stream.

    Parameters
    ----------
    make : callable
        ``make(**context)`` returns one environment.
    contexts : sequence of mappings
        One per environment.

    Raises
    ------
    ValueError
        If there is no context, or a space cannot be handled or differs between the environments.

    Notes
    -----
    Environments are assumed to be deterministic given the seed and the actions of an episode. Their state is
    then exactly these, and `set_state` plays the episodes under way again: its cost, and the memory of the
    recorded actions, grow with the length of an episode.
    """

    is_vectorised: ClassVar[bool] = True

    def __init__(self, make: Callable[..., Env[Any, Any]], contexts: Contexts) -> None:
        if not contexts:
            raise ValueError("at least one context is needed, one per environment, got none")
        self._envs = [make(**context) for context in contexts]
        self.num_envs = len(self._envs)
        self._spaces = [env.observation_space for env in self._envs]
        self.observation_size = _common_size(self._spaces)
        self._actions = action_converter([env.action_space for env in self._envs])
        self.action_spec = action_spec(self._envs[0].action_space)
        box = self._spaces[0] if isinstance(self._spaces[0], Box) else None
        self._is_box = box is not None
        self.is_one_hot = isinstance(self._spaces[0], Discrete)
        flat_shape = (self.observation_size,)
        self.observation_shape: tuple[int, ...] = box.shape if box and len(box.shape) == 3 else flat_shape
        self.observation_divisor = _divisor(self._spaces[0])
        self._rows_shape = (self.num_envs, *(box.shape if box else (self.observation_size,)))
        self._observations = np.zeros((self.num_envs, self.observation_size), np.float32)
        self._seeds = [0] * self.num_envs
        self._recorded: list[list[Any]] = [[] for _ in self._envs]
        self._generator = np.random.default_rng(0)

    def reset(self, generator: np.random.Generator) -> FloatMatrix:
        """See `VectorEnv.reset`."""
        self._generator = generator
        self._start_episodes(range(self.num_envs), self._observations)
        return self._observations.copy()

    def reseed(self, generator: np.random.Generator) -> None:
        """See `VectorEnv.reseed`."""
        self._generator = generator

    def step(self, actions: NDArray[Any], out: StepBuffers) -> None:
        """See `VectorEnv.step`."""
        rows = out.final_observations.reshape(self._rows_shape)
        finished = []
        for i, action in enumerate(self._actions.convert(actions)):
            observation, reward, terminated, truncated, _ = self._envs[i].step(action)
            if reward is None:
                raise TypeError(f"step of {self._envs[i]} gave no reward, but None")
            self._write(i, observation, rows)
            out.rewards[i] = reward
            out.terminated_items[i] = terminated
            out.truncated_items[i] = truncated
            self._recorded[i].append(action)
            if terminated or truncated:
                finished.append(i)
        out.observation_items[:] = out.final_items
        out.any_done = bool(finished)
        if finished:
            self._start_episodes(finished, out.observations)
        np.copyto(self._observations, out.observations)

    def get_state(self) -> State:
        """See `VectorEnv.get_state`.

        Returns
        -------
        dict
            `seeds` and `lengths` of the episodes under way, int64, shape (N,); `actions` since their starts,
            padded with zeros to the longest, shape (N, longest, ...); current `observations`.
        """
        lengths = [len(actions) for actions in self._recorded]
        padded = np.zeros((self.num_envs, max(lengths), *self._actions.shape), self._actions.dtype)
        for row, actions, length in zip(padded, self._recorded, lengths, strict=True):
            if length:
                row[:length] = actions
        return {
            "seeds": np.array(self._seeds, np.int64),
            "lengths": np.array(lengths, np.int64),
            "actions": padded,
            "observations": self._observations.copy(),
        }

    def set_state(self, state: State) -> FloatMatrix:
        """See `VectorEnv.set_state`.

        Raises
        ------
        ValueError
            Also if an environment, played again, does not arrive where it was.
        """
        if state["observations"].shape != self._observations.shape:
            raise ValueError(
                f"state holds observations of shape {state['observations'].shape}, "
                f"these environments have {self._observations.shape}"
            )
        self._seeds = state["seeds"].tolist()
        for i, length in enumerate(state["lengths"].tolist()):
            self._recorded[i] = self._actions.restore(state["actions"][i, :length])
            self._play_again(i, state["observations"][i])
        return self._observations.copy()

    def close(self) -> None:
        """See `VectorEnv.close`."""
        for env in self._envs:
            env.close()

    def _start_episodes(self, indices: Iterable[int], observations: FloatMatrix) -> None:
        rows = observations.reshape(self._rows_shape)
        for i in indices:
            self._seeds[i] = int(self._generator.integers(SEED_BOUND))
            self._recorded[i] = []
            self._write(i, self._reset(i), rows)

    def _reset(self, i: int) -> Any:
        answer = self._envs[i].reset(seed=self._seeds[i])
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise TypeError(f"reset of {self._envs[i]} gave {type(answer).__name__}, not (observation, info)")
        return answer[0]

    def _write(self, i: int, observation: Any, rows: NDArray[np.float32]) -> None:
        """Write what an environment shows into its row of an array of shape `_rows_shape`."""
        if not self._is_box:
            flat: Any = flatten(self._spaces[i], observation)
            rows[i] = flat
            return
        if getattr(observation, "shape", None) != self._rows_shape[1:]:
            shape = np.shape(observation)
            if observation is None or shape != self._rows_shape[1:]:
                wanted = self._rows_shape[1:]
                raise TypeError(
                    f"{self._envs[i]} gave an observation of shape {shape}, its space says {wanted}"
                )
        if self.observation_divisor == 1.0:
            rows[i] = observation
        else:
            np.divide(observation, self.observation_divisor, out=rows[i], dtype=np.float32)

    def _play_again(self, i: int, expected: NDArray[np.float32]) -> None:
        observation = self._reset(i)
        for action in self._recorded[i]:
            observation = self._envs[i].step(action)[0]
        self._write(i, observation, self._observations.reshape(self._rows_shape))
        if not np.array_equal(self._observations[i], expected, equal_nan=True):
            difference = np.abs(self._observations[i] - expected).max()
            raise ValueError(
                f"{self._envs[i]} is not deterministic, so its episode cannot go on: seed {self._seeds[i]} "
                f"and the same {len(self._recorded[i])} actions led to an observation that differs from the "
                f"stored one by {difference:g}"
            )


def _is_flattenable(space: Space[Any]) -> bool:
    try:
        return bool(space.is_np_flattenable)
    except NotImplementedError:  # spaces of other packages, such as a mission in words
        return False


def _common_size(spaces: list[Space[Any]]) -> int:
    for space in spaces:
        if not isinstance(space, Space):
            raise ValueError(f"observation_space is {space!r}, not a gymnasium space")
        if not _is_flattenable(space):
            raise ValueError(
                f"observation space {space} does not flatten to a vector of fixed length. "
                "Wrap the environment so that it gives a Box, or Discrete, MultiDiscrete and MultiBinary "
                "spaces, alone or in a Dict or Tuple"
            )
    kinds = {(type(space).__name__, space.shape, flatdim(space)) for space in spaces}
    if len(kinds) > 1:
        raise ValueError(f"one policy cannot read different observation spaces: {sorted(kinds, key=str)}")
    if len({_divisor(space) for space in spaces}) > 1:
        raise ValueError(
            "one policy cannot read different observation spaces: images of bytes, which are divided by "
            f"{LARGEST_BYTE:g}, and others: {sorted({str(space) for space in spaces})}"
        )
    return flatdim(spaces[0])


def _divisor(space: Space[Any]) -> float:
    """Return what observations are divided by: 255 for images of bytes, else 1."""
    if not isinstance(space, Box) or len(space.shape) != 3 or space.dtype != np.uint8:
        return 1.0
    return LARGEST_BYTE if (space.low == 0).all() and (space.high == LARGEST_BYTE).all() else 1.0
