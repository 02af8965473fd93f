"""WindyCliff: the grid by hand, and the draws of the published runs."""

import numpy as np
import pytest

from fdrl_mpi.envs.finite_mdp import optimal_action_values
from fdrl_mpi.envs.windy_cliff import DOWN, LEFT, RIGHT, UP, WindyCliff, windy_cliff_instance
from fdrl_mpi.steps import StepBuffers

SEEDS = (602741, 43798, 589897)
"""Of the first three published runs."""


@pytest.mark.parametrize(
    ("state", "action", "chances"),
    [
        (0, UP, {4: 0.8, 0: 0.2}),
        (0, RIGHT, {1: 0.8, 0: 0.2}),
        (0, LEFT, {0: 1.0}),
        (6, RIGHT, {7: 0.8, 2: 0.2}),
        (6, UP, {10: 0.8, 2: 0.2}),
        (6, DOWN, {2: 1.0}),
        (7, RIGHT, {7: 0.8, 3: 0.2}),
        (13, UP, {13: 0.8, 9: 0.2}),
        (1, UP, {0: 1.0}),
        (2, RIGHT, {0: 1.0}),
        (3, LEFT, {0: 1.0}),
    ],
)
def test_moves_are_those_worked_out_by_hand(state, action, chances):
    kernel = WindyCliff([{"wind": 0.6}]).kernels[0]
    expected = np.zeros(16)
    expected[list(chances)] = list(chances.values())
    np.testing.assert_allclose(kernel[state, action], expected, rtol=0, atol=1e-15)


def test_reward_is_that_of_the_state_an_action_is_taken_in():
    rewards = WindyCliff([{}]).rewards_table
    np.testing.assert_array_equal(rewards.T, [[-1.0, -100.0, -100.0, 100.0, *[-1.0] * 12]] * 4)


def test_without_wind_the_best_policy_walks_round_the_cliff():
    env = WindyCliff([{}])
    policy = optimal_action_values(env.kernels[0], env.rewards_table, 0.95).argmax(axis=1)
    out = StepBuffers.allocate(1, 16)
    env.reset(np.random.default_rng(0))
    visited = [int(env.states[0])]
    for _ in range(6):
        env.step(policy[env.states], out)
        visited.append(int(env.states[0]))
    assert visited == [0, 4, 5, 6, 7, 3, 0]


@pytest.mark.parametrize("run", range(3))
def test_winds_and_values_are_those_of_the_published_run(run):
    stream = np.random.RandomState(SEEDS[run])
    instance = windy_cliff_instance(run)
    np.testing.assert_array_equal(instance.initial_values, stream.uniform(size=(16, 4)))
    np.testing.assert_array_equal(instance.train_winds, [stream.uniform() for _ in range(5)])
    np.testing.assert_allclose(instance.test_winds, np.arange(10) / 9)
    np.testing.assert_array_equal(WindyCliff([{}], run=run).initial_values, instance.initial_values)


def test_wind_or_run_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"wind = 1.5 .* must be in \[0, 1\]"):
        WindyCliff([{"wind": 1.5}])
    with pytest.raises(ValueError, match="run = -1"):
        WindyCliff([{}], run=-1)
