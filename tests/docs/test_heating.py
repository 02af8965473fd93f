"""Houses obey their equation, each alone as among others."""

import numpy as np
import pytest
from heating import FROZEN_C, FROZEN_COST, STEP_H, Heating

from fdrl_mpi.steps import StepBuffers

CALM = {"swing": 0.0, "unrest": 0.0, "outside": 4.0}


def houses(*contexts, start_c=20.0, **kwargs) -> tuple[Heating, StepBuffers]:
    """Make houses that are all equally warm, at midnight."""
    env = Heating(contexts, **kwargs)
    env.reset(np.random.default_rng(0))
    state = env.get_state()
    env.set_state(state | {"inside": np.full(len(contexts), start_c), "hour": np.zeros(len(contexts))})
    return env, StepBuffers.allocate(len(contexts), env.observation_size)


def inside(env: Heating) -> np.ndarray:
    return env.get_state()["inside"]


@pytest.mark.parametrize("level", [0, 2, 4])
def test_a_room_follows_the_exact_solution(level):
    """``T(t) = T_eq + (T_0 - T_eq) exp(-t / (R C))`` with ``T_eq = T_out + R P u``."""
    resistance, capacity, power, steps = 3.0, 8.0, 6.0, 40
    env, out = houses(CALM | {"resistance": resistance, "capacity": capacity, "power": power})
    for _ in range(steps):
        env.step(np.array([level]), out)
    equilibrium = 4.0 + resistance * power * level / 4
    decay = np.exp(-steps * STEP_H / (resistance * capacity))
    np.testing.assert_allclose(inside(env), equilibrium + (20.0 - equilibrium) * decay, rtol=1e-12)


def test_a_house_among_others_is_as_it_is_alone():
    contexts = [CALM | {"resistance": 2.0}, CALM | {"capacity": 4.0}, CALM | {"power": 9.0, "outside": -3.0}]
    together, out = houses(*contexts)
    singles = [houses(context) for context in contexts]
    actions = np.random.default_rng(1).integers(0, 5, (30, 3))
    for action in actions:
        together.step(action, out)
        for i, (single, own) in enumerate(singles):
            single.step(action[i : i + 1], own)
            np.testing.assert_array_equal(out.final_observations[i], own.final_observations[0])
            assert out.rewards[i] == own.rewards[0]


def test_heat_costs_its_price_and_more_by_day():
    env, out = houses(CALM | {"power": 8.0}, start_c=21.0)
    env.step(np.array([4]), out)
    assert out.rewards[0] == pytest.approx(-8.0 * STEP_H * 0.15)
    env, out = houses(CALM | {"power": 8.0}, start_c=21.0)
    env.set_state(env.get_state() | {"hour": np.array([12.0])})
    env.step(np.array([4]), out)
    assert out.rewards[0] == pytest.approx(-8.0 * STEP_H * 0.35)


def test_frozen_pipes_end_an_episode_and_the_time_limit_cuts_one():
    cold, mild = CALM | {"outside": -90.0, "resistance": 0.1, "capacity": 1.0}, CALM
    env, out = houses(cold, mild, max_episode_steps=3)
    env.step(np.array([0, 2]), out)
    assert out.terminated.tolist() == [True, False]
    assert (out.truncated.tolist(), out.any_done) == ([False, False], True)
    assert out.rewards[0] < -FROZEN_COST
    assert 5.0 * out.final_observations[0, 0] + 21.0 < FROZEN_C
    assert 17.0 <= inside(env)[0] <= 23.0
    for _ in range(2):
        env.step(np.array([0, 2]), out)
    assert (out.terminated[1], out.truncated[1]) == (False, True)
    assert (out.observations[1] != out.final_observations[1]).any()


def test_where_an_episode_goes_on_the_next_observation_is_the_final_one():
    env, out = houses({}, {})
    env.step(np.array([1, 3]), out)
    assert not out.any_done
    np.testing.assert_array_equal(out.observations, out.final_observations)


def test_a_state_that_is_put_back_goes_on_to_the_bit():
    contexts = [{"resistance": 2.0}, {"outside": -4.0}]
    (unbroken, out), (resumed, again) = (houses(*contexts, max_episode_steps=20) for _ in range(2))
    actions = np.random.default_rng(2).integers(0, 5, (60, 2))
    for action in actions[:30]:
        unbroken.step(action, out)
    observations = resumed.set_state(unbroken.get_state())
    np.testing.assert_array_equal(observations, out.observations)
    for env in (unbroken, resumed):
        env.reseed(np.random.default_rng(3))
    for action in actions[30:]:
        unbroken.step(action, out)
        resumed.step(action, again)
        np.testing.assert_array_equal(out.observations, again.observations)
        np.testing.assert_array_equal(out.rewards, again.rewards)


def test_a_context_that_does_not_exist_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean resistance"):
        Heating([{"resistence": 1.0}])
    with pytest.raises(ValueError, match="of 1 houses, there are 2"):
        houses({}, {})[0].set_state(houses({})[0].get_state())
