"""Pendulum against gymnasium's."""

import numpy as np
import pytest
from gymnasium.envs.classic_control import PendulumEnv

from fdrl_mpi.envs.pendulum import Pendulum
from fdrl_mpi.steps import StepBuffers

CONTEXTS = [
    {},
    {"gravity": 3.7, "m": 0.6, "l": 1.4, "dt": 0.03, "max_speed": 5.0, "max_torque": 1.2},
    {"gravity": 0.0, "max_torque": 0.5},
]


def make_single(context: dict[str, float]) -> PendulumEnv:
    env = PendulumEnv()
    for name, value in context.items():
        attribute = "g" if name == "gravity" else name
        assert hasattr(env, attribute)
        setattr(env, attribute, value)
    return env


def test_every_step_equals_gymnasium(assert_equals_gymnasium):
    own = Pendulum(CONTEXTS, max_episode_steps=60)
    # float64 on both sides, in another order; seen as float32
    assert_equals_gymnasium(own, [make_single(context) for context in CONTEXTS], steps=250, tolerance=1e-6)


def test_torque_beyond_the_motor_counts_as_the_motor_gives_it():
    env, out = Pendulum([{}, {}]), StepBuffers.allocate(2, 3)
    env.reset(np.random.default_rng(0))
    state = env.get_state()
    state["physics"][:, 1] = state["physics"][:, 0]
    env.set_state(state)
    env.step(np.array([[2.0], [100.0]], np.float32), out)
    assert out.rewards[0] == out.rewards[1]
    np.testing.assert_array_equal(out.final_observations[0], out.final_observations[1])


def test_motor_stronger_than_the_action_space_is_refused():
    with pytest.raises(ValueError, match=r"max_torque = 3.0 .* must be in \[0, 2\] N m"):
        Pendulum([{"max_torque": 3.0}])
