"""Comparison of our vectorised environments with gymnasium's single ones."""

import warnings
from collections.abc import Callable, Sequence

import gymnasium
import numpy as np
import pytest

from fdrl_mpi.envs.classic_control import ClassicControl
from fdrl_mpi.steps import StepBuffers


def _draw_actions(env: ClassicControl, generator: np.random.Generator) -> np.ndarray:
    spec = env.action_spec
    if spec.kind == "discrete":
        return generator.integers(spec.size, size=env.num_envs)
    bound = 1.5 * spec.high[0]  # some actions are out of bounds
    return generator.uniform(-bound, bound, (env.num_envs, 1)).astype(np.float32)


@pytest.fixture(scope="session")
def box2d() -> None:
    """Import Box2D, or skip; its types warn, and crash if the warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("Box2D")


@pytest.fixture
def draw_actions() -> Callable[[ClassicControl, np.random.Generator], np.ndarray]:
    """Random actions for every environment."""
    return _draw_actions


@pytest.fixture
def assert_equals_gymnasium() -> Callable[[ClassicControl, Sequence[gymnasium.Env], int, float], None]:
    """Step ours and one gymnasium environment per row with the same actions, each episode from our start."""

    def check(own: ClassicControl, singles: Sequence[gymnasium.Env], steps: int, tolerance: float) -> None:
        generator = np.random.default_rng(1)
        timed = [gymnasium.wrappers.TimeLimit(single, own.max_episode_steps) for single in singles]
        out = StepBuffers.allocate(own.num_envs, own.observation_size)
        own.reset(generator)
        starting = range(own.num_envs)
        for _ in range(steps):
            for i in starting:
                timed[i].reset()
                singles[i].unwrapped.state = own.get_state()["physics"][:, i]
            actions = _draw_actions(own, generator)
            own.step(actions, out)
            for i, action in enumerate(actions):
                typed = action if action.ndim == 0 else action.astype(np.float64)
                observation, reward, terminated, truncated, _ = timed[i].step(typed)
                np.testing.assert_allclose(out.final_observations[i], observation, tolerance, tolerance)
                np.testing.assert_allclose(out.rewards[i], reward, 1e-6)  # float32 rounding
                assert (out.terminated[i], out.truncated[i]) == (terminated, truncated)
            done = out.terminated | out.truncated
            assert out.any_done == done.any()
            physics = own.get_state()["physics"]
            for i in (~done).nonzero()[0]:
                np.testing.assert_allclose(physics[:, i], singles[i].unwrapped.state, tolerance, tolerance)
            starting = done.nonzero()[0]

    return check
