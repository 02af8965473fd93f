"""CartPole against gymnasium's, and its scalar path against its array path."""

import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv

from fdrl_mpi.envs.cartpole import CartPole
from fdrl_mpi.steps import StepBuffers

CONTEXTS = [
    {},
    {"gravity": 1.6, "masscart": 0.4, "masspole": 0.7, "length": 1.3, "force_mag": 3.0, "tau": 0.011},
    {"gravity": 25.0, "length": 0.1},
]


class ArrayCartPole(CartPole):
    """The numpy path, however few the environments."""

    scalar_below = 0


def make_single(context: dict[str, float]) -> CartPoleEnv:
    env = CartPoleEnv()
    for name, value in context.items():
        assert hasattr(env, name)
        setattr(env, name, value)
    env.total_mass = env.masspole + env.masscart
    env.polemass_length = env.masspole * env.length
    return env


@pytest.mark.parametrize("cls", [CartPole, ArrayCartPole])
def test_every_step_equals_gymnasium_bit_for_bit(cls, assert_equals_gymnasium):
    own = cls(CONTEXTS, max_episode_steps=40)
    assert_equals_gymnasium(own, [make_single(context) for context in CONTEXTS], steps=300, tolerance=0.0)


def test_scalar_and_array_paths_agree_bit_for_bit_over_many_episodes(draw_actions):
    contexts = CONTEXTS * 3
    scalar, array = CartPole(contexts, max_episode_steps=30), ArrayCartPole(contexts, max_episode_steps=30)
    outs = [StepBuffers.allocate(len(contexts), 4) for _ in range(2)]
    generator = np.random.default_rng(3)
    np.testing.assert_array_equal(
        scalar.reset(np.random.default_rng(5)), array.reset(np.random.default_rng(5))
    )
    for _ in range(400):
        actions = draw_actions(scalar, generator)
        scalar.step(actions, outs[0])
        array.step(actions, outs[1])
        for name in ("observations", "rewards", "terminated", "truncated", "final_observations"):
            np.testing.assert_array_equal(getattr(outs[0], name), getattr(outs[1], name), err_msg=name)
    for name, value in scalar.get_state().items():
        np.testing.assert_array_equal(value, array.get_state()[name], err_msg=name)


def test_state_of_the_scalar_path_continues_on_the_array_path():
    scalar, array = CartPole(CONTEXTS), ArrayCartPole(CONTEXTS)
    scalar.reset(np.random.default_rng(0))
    actions = np.array([0, 1, 1])
    outs = [StepBuffers.allocate(3, 4) for _ in range(2)]
    scalar.step(actions, outs[0])
    array.set_state(scalar.get_state())
    scalar.step(actions, outs[0])
    array.step(actions, outs[1])
    np.testing.assert_array_equal(outs[0].final_observations, outs[1].final_observations)


def test_first_states_are_uniform_within_a_twentieth():
    starts = CartPole([{}] * 2000).reset(np.random.default_rng(0))
    assert np.abs(starts).max() <= 0.05
    np.testing.assert_allclose(starts.mean(axis=0), 0.0, atol=5 * 0.1 / np.sqrt(12 * 2000))
