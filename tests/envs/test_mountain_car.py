"""MountainCar against gymnasium's."""

import numpy as np
import pytest
from gymnasium.envs.classic_control import MountainCarEnv

from fdrl_mpi.envs.mountain_car import MountainCar
from fdrl_mpi.steps import StepBuffers

CONTEXTS = [
    {},
    {"force": 0.004, "gravity": 0.001, "goal_position": 0.1, "max_speed": 0.05},  # reaches its goal
    {
        "min_position": -0.65,
        "max_position": 0.2,
        "goal_position": 0.15,
        "goal_velocity": 0.02,
    },  # hits its wall
]


def make_single(context: dict[str, float]) -> MountainCarEnv:
    env = MountainCarEnv()
    for name, value in context.items():
        assert hasattr(env, name)
        setattr(env, name, value)
    return env


def test_every_step_equals_gymnasium(assert_equals_gymnasium):
    own = MountainCar(CONTEXTS, max_episode_steps=150)
    assert_equals_gymnasium(own, [make_single(context) for context in CONTEXTS], steps=600, tolerance=1e-6)


def test_pushing_with_the_motion_reaches_the_goal():
    env, out = MountainCar([{}]), StepBuffers.allocate(1, 2)
    velocity = env.reset(np.random.default_rng(0))[:, 1]
    out.final_observations[:, 1] = velocity
    for _ in range(200):
        env.step(np.where(out.final_observations[:, 1] < 0.0, 0, 2), out)
        if out.any_done:
            break
    assert out.terminated[0]
    assert not out.truncated[0]


def test_goal_counts_only_at_the_goal_velocity():
    env, out = MountainCar([{"goal_velocity": 0.02}, {"goal_velocity": 0.04}]), StepBuffers.allocate(2, 2)
    env.reset(np.random.default_rng(0))
    state = env.get_state()
    state["physics"][:] = np.array([[0.49], [0.03]])
    env.set_state(state)
    env.step(np.array([1, 1]), out)
    assert out.terminated.tolist() == [True, False]


@pytest.mark.parametrize("context", [{"goal_position": 0.7}, {"goal_velocity": 0.08}])
def test_goal_out_of_reach_is_refused(context):
    with pytest.raises(ValueError, match="can never be reached"):
        MountainCar([{}, context])
