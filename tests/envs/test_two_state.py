"""TwoState: its chances, and the values of the best policy by hand."""

import numpy as np
import pytest

from fdrl_mpi.envs.two_state import TwoState


def test_chances_are_drawn_from_the_published_range():
    env = TwoState([{}], num_actions=50)
    stay = env.kernels[0, [0, 1], :, [0, 1]]
    assert stay.shape == (2, 50)
    assert 0.4 <= stay.min() < 0.42
    assert 0.58 < stay.max() < 0.6
    np.testing.assert_allclose(env.kernels.sum(axis=-1), 1.0)
    assert (env.rewards_table.T == [0.0, 1.0]).all()


def test_seed_decides_the_chances():
    first, again, other = (TwoState([{}], seed=seed).kernels for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


def test_best_policy_leaves_state_0_and_stays_in_state_1_as_fast_as_it_can():
    env, gamma = TwoState([{}], num_actions=7), 0.9
    leave, stay = env.kernels[0, 0, :, 1].max(), env.kernels[0, 1, :, 1].max()
    # V0 = gamma (leave V1 + (1 - leave) V0), V1 = 1 + gamma (stay V1 + (1 - stay) V0)
    ratio = gamma * leave / (1.0 - gamma * (1.0 - leave))
    in_1 = 1.0 / (1.0 - gamma * (stay + (1.0 - stay) * ratio))
    values = env.optimal_values(gamma)
    assert values.shape == (2, 7)
    np.testing.assert_allclose(values.max(axis=1), [ratio * in_1, in_1], rtol=1e-12)


def test_world_without_actions_is_refused():
    with pytest.raises(ValueError, match="num_actions = 0"):
        TwoState([{}], num_actions=0)
