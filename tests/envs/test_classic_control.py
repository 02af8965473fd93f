"""What every vectorised physics environment must do."""

import gymnasium
import numpy as np
import pytest

from fdrl_mpi.envs.acrobot import Acrobot
from fdrl_mpi.envs.cartpole import CartPole
from fdrl_mpi.envs.gymnasium_actions import action_spec
from fdrl_mpi.envs.mountain_car import MountainCar
from fdrl_mpi.envs.pendulum import Pendulum
from fdrl_mpi.steps import StepBuffers

ALL = [CartPole, Pendulum, Acrobot, MountainCar]
RESULTS = ("observations", "rewards", "terminated", "truncated", "final_observations")


def snapshot(out: StepBuffers) -> list[np.ndarray]:
    return [getattr(out, name).copy() for name in RESULTS]


@pytest.mark.parametrize("num_envs", [3, 40])
@pytest.mark.parametrize("cls", ALL)
def test_restored_environment_continues_bit_for_bit(cls, num_envs, draw_actions):
    first, second = (cls([{}] * num_envs, max_episode_steps=13) for _ in range(2))
    generator = np.random.default_rng(0)
    out = StepBuffers.allocate(num_envs, first.observation_size)
    first.reset(np.random.default_rng(1))
    for _ in range(30):
        first.step(draw_actions(first, generator), out)

    np.testing.assert_array_equal(second.set_state(first.get_state()), out.observations)
    first.reseed(np.random.default_rng(2))
    second.reseed(np.random.default_rng(2))
    for _ in range(30):
        actions = draw_actions(first, generator)
        first.step(actions, out)
        expected = snapshot(out)
        second.step(actions, out)
        for name, value, want in zip(RESULTS, snapshot(out), expected, strict=True):
            np.testing.assert_array_equal(value, want, err_msg=name)


@pytest.mark.parametrize("cls", ALL)
def test_observations_are_vectors_as_they_stand(cls):
    env = cls([{}])
    assert (env.observation_shape, env.observation_divisor) == ((env.observation_size,), 1.0)


@pytest.mark.parametrize("cls", ALL)
def test_stored_state_does_not_change_when_the_environment_goes_on(cls, draw_actions):
    env = cls([{}] * 3)
    observations = env.reset(np.random.default_rng(0))
    state = env.get_state()
    out = StepBuffers.allocate(3, env.observation_size)
    env.step(draw_actions(env, np.random.default_rng(0)), out)
    np.testing.assert_array_equal(env.set_state(state), observations)


@pytest.mark.parametrize("num_envs", [3, 40])
@pytest.mark.parametrize("cls", ALL)
def test_time_limit_truncates_and_starts_the_next_episode_in_the_same_step(cls, num_envs, draw_actions):
    env, generator = cls([{}] * num_envs, max_episode_steps=5), np.random.default_rng(0)
    env.reset(generator)
    out = StepBuffers.allocate(num_envs, env.observation_size)
    for step in range(1, 16):
        env.step(draw_actions(env, generator), out)
        assert out.truncated.all() == (step % 5 == 0) == out.any_done
        assert not out.terminated.any()
        arrived_elsewhere = (out.observations != out.final_observations).any(axis=1)
        np.testing.assert_array_equal(arrived_elsewhere, out.truncated)


@pytest.mark.parametrize("num_envs", [1, 30])
def test_falling_on_the_last_step_is_terminated_and_truncated(num_envs):
    env, out = CartPole([{}] * num_envs, max_episode_steps=1), StepBuffers.allocate(num_envs, 4)
    env.reset(np.random.default_rng(0))
    state = env.get_state()
    state["physics"][2] = 0.3
    env.set_state(state)
    env.step(np.zeros(num_envs, np.int64), out)
    assert out.terminated.all()
    assert out.truncated.all()


@pytest.mark.parametrize("cls", ALL)
def test_observations_and_actions_lie_in_the_spaces_of_gymnasium(cls, draw_actions):
    env, generator = cls([{}] * 5, max_episode_steps=50), np.random.default_rng(0)
    out = StepBuffers.allocate(5, env.observation_size)
    rows = list(env.reset(generator))
    for _ in range(100):
        env.step(draw_actions(env, generator), out)
        rows += [*out.observations.copy(), *out.final_observations.copy()]
    theirs = gymnasium.make(cls.environment_id)
    assert all(theirs.observation_space.contains(row) for row in rows)
    assert env.action_spec == action_spec(theirs.action_space)


@pytest.mark.parametrize("cls", ALL)
def test_results_land_in_one_row_of_a_rollout(cls, draw_actions):
    env = cls([{}] * 3)
    observations = env.reset(np.random.default_rng(0))
    rollout = np.full((4, 3, env.observation_size), np.nan, np.float32)
    flags = np.zeros((2, 4, 3), np.bool_)
    out = StepBuffers(
        rollout[2], np.zeros(3, np.float32), flags[0, 2], flags[1, 2], np.zeros_like(observations)
    )
    env.step(draw_actions(env, np.random.default_rng(0)), out)
    assert np.isfinite(rollout).all(axis=(1, 2)).tolist() == [False, False, True, False]
    np.testing.assert_array_equal(rollout[2], out.final_observations)


@pytest.mark.parametrize("cls", ALL)
def test_unknown_context_name_is_refused_with_the_nearest_one(cls):
    name = next(iter(cls.context_table))
    with pytest.raises(ValueError, match=f"did you mean {name}") as refusal:
        cls([{}, {name + "x": 1.0}])
    assert all(known in str(refusal.value) for known in cls.context_table)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_context_value_out_of_range_is_refused_with_the_range(value):
    with pytest.raises(ValueError, match=rf"masspole = {value} .* must be in \(0, inf\) kg"):
        CartPole([{"masspole": value}])


def test_environment_without_contexts_or_time_is_refused():
    with pytest.raises(ValueError, match="got none"):
        CartPole([])
    with pytest.raises(ValueError, match="max_episode_steps = 0"):
        CartPole([{}], max_episode_steps=0)


def test_state_of_another_number_of_environments_is_refused():
    with pytest.raises(ValueError, match=r"\(4, 2\).*\(4, 3\)"):
        CartPole([{}] * 3).set_state(CartPole([{}] * 2).get_state())


def test_step_buffer_that_is_not_contiguous_float32_is_refused():
    good = StepBuffers.allocate(3, 4)
    flags = (good.terminated, good.truncated)
    with pytest.raises(ValueError, match="float64"):
        StepBuffers(np.zeros((3, 4)), good.rewards, *flags, good.final_observations)
    with pytest.raises(ValueError, match="not C-contiguous"):
        StepBuffers(good.observations, good.rewards, *flags, np.zeros((4, 3), np.float32).T)
    with pytest.raises(ValueError, match=r"\(2,\)"):
        StepBuffers(good.observations, good.rewards[:2], *flags, good.final_observations)
