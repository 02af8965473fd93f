"""Acrobot against gymnasium's, and by its symmetries."""

import numpy as np
from gymnasium.envs.classic_control import AcrobotEnv

from fdrl_mpi.envs.acrobot import Acrobot
from fdrl_mpi.steps import StepBuffers

CONTEXTS = [
    {},
    {"link_length_1": 0.8, "link_mass_1": 0.6, "link_mass_2": 1.5, "link_com_1": 0.3, "link_com_2": 0.7},
    {"link_moi": 0.4, "max_velocity_1": 0.1, "max_velocity_2": 0.2, "dt": 0.1},
]
ATTRIBUTES = {
    "link_length_1": "LINK_LENGTH_1",
    "link_mass_1": "LINK_MASS_1",
    "link_mass_2": "LINK_MASS_2",
    "link_com_1": "LINK_COM_POS_1",
    "link_com_2": "LINK_COM_POS_2",
    "link_moi": "LINK_MOI",
    "max_velocity_1": "MAX_VEL_1",
    "max_velocity_2": "MAX_VEL_2",
    "dt": "dt",
}


def make_single(context: dict[str, float]) -> AcrobotEnv:
    env = AcrobotEnv()
    for name, value in context.items():
        assert hasattr(env, ATTRIBUTES[name])
        setattr(env, ATTRIBUTES[name], value)
    return env


def test_every_step_equals_gymnasium(assert_equals_gymnasium):
    # 50 steps: the arm is chaotic, rounding of the last bit grows
    own = Acrobot(CONTEXTS, max_episode_steps=50)
    assert_equals_gymnasium(own, [make_single(context) for context in CONTEXTS], steps=300, tolerance=1e-6)


def test_angles_stay_within_half_a_turn():
    env, out = Acrobot([{}]), StepBuffers.allocate(1, 6)
    env.reset(np.random.default_rng(0))
    state = env.get_state()
    state["physics"][:, 0] = 0.0, 3.1, 0.0, 5.0
    env.set_state(state)
    env.step(np.array([1]), out)
    assert -np.pi <= env.get_state()["physics"][1, 0] < 0.0


def test_first_states_are_rounded_to_float32_as_in_gymnasium():
    env = Acrobot([{}] * 20)
    env.reset(np.random.default_rng(0))
    physics = env.get_state()["physics"]
    np.testing.assert_array_equal(physics, physics.astype(np.float32))


def test_tip_above_the_bar_ends_the_episode_without_a_penalty():
    env, out = Acrobot([{}, {}]), StepBuffers.allocate(2, 6)
    env.reset(np.random.default_rng(0))
    state = env.get_state()
    state["physics"][:] = np.array([[np.pi, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]).T
    env.set_state(state)
    env.step(np.array([1, 1]), out)
    assert out.terminated.tolist() == [True, False]
    assert out.rewards.tolist() == [0.0, -1.0]


def test_half_the_time_under_four_times_the_gravity_is_the_same_motion():
    """Time scaled by a power of two changes no bit: angles equal, velocities doubled."""
    env = Acrobot([{"dt": 0.1}, {"dt": 0.05, "gravity": 4 * 9.8}])
    env.reset(np.random.default_rng(0))
    state = env.get_state()
    state["physics"][:, 0] = 1.0, -0.5, 0.3, -0.2
    state["physics"][:, 1] = 1.0, -0.5, 0.6, -0.4
    env.set_state(state)
    out = StepBuffers.allocate(2, 6)
    for _ in range(20):
        env.step(np.array([1, 1]), out)
    slow, fast = env.get_state()["physics"].T
    np.testing.assert_array_equal(slow[:2], fast[:2])
    np.testing.assert_array_equal(2 * slow[2:], fast[2:])


def test_only_noisy_motors_take_draws_in_a_step():
    out = StepBuffers.allocate(2, 6)
    draws = {}
    for noise in (0.0, 0.5):
        env, generator = Acrobot([{}, {"torque_noise_max": noise}]), np.random.default_rng(0)
        env.reset(generator)
        env.step(np.array([1, 1]), out)
        draws[noise] = generator.random()
    untouched = np.random.default_rng(0)
    untouched.uniform(size=8)
    assert draws[0.0] == untouched.random()
    assert draws[0.5] != draws[0.0]


def test_noise_moves_only_the_environments_that_have_it():
    quiet, noisy = Acrobot([{}, {}]), Acrobot([{}, {"torque_noise_max": 0.5}])
    outs = [StepBuffers.allocate(2, 6) for _ in range(2)]
    for env, out in zip((quiet, noisy), outs, strict=True):
        env.reset(np.random.default_rng(0))
        env.step(np.array([1, 1]), out)
    np.testing.assert_array_equal(outs[0].final_observations[0], outs[1].final_observations[0])
    assert not np.array_equal(outs[0].final_observations[1], outs[1].final_observations[1])
