"""Catch: the board, the fall and the drift."""

import numpy as np
import pytest

from fdrl_mpi.build_agent import make_environment
from fdrl_mpi.config import EnvironmentConfig
from fdrl_mpi.envs.catch import LEFT, RIGHT, STAY, Catch
from fdrl_mpi.steps import StepBuffers

RESULTS = ("observations", "rewards", "terminated", "truncated", "final_observations")


def buffers(env: Catch) -> StepBuffers:
    return StepBuffers.allocate(env.num_envs, env.observation_size)


def columns(env: Catch) -> tuple[np.ndarray, np.ndarray]:
    state = env.get_state()
    return state["ball"], state["paddle"]


def follow(env: Catch) -> np.ndarray:
    """Move towards the column of the ball."""
    ball, paddle = columns(env)
    return STAY + np.sign(ball - paddle)


def test_the_board_shows_ball_and_paddle_as_they_fall_and_move():
    env = Catch([{}], rows=4, columns=3)
    first = env.reset(np.random.default_rng(0)).reshape(env.observation_shape)[..., 0]
    (ball,), _ = columns(env)
    out, boards = buffers(env), [first]
    for action in (LEFT, LEFT):
        env.step(np.array([action]), out)
        boards.append(out.observations.copy().reshape(4, 3))
    for height, (board, paddle) in enumerate(zip(boards, (1, 0, 0), strict=True)):
        expected = np.zeros((4, 3))
        expected[height, ball] = expected[3, paddle] = 1.0
        np.testing.assert_array_equal(board, expected)
    assert (env.observation_shape, env.observation_divisor) == ((4, 3, 1), 255.0)


def test_an_episode_falls_through_all_rows_and_pays_for_the_catch_only():
    env = Catch([{}] * 60, rows=7, columns=4)
    out, generator = buffers(env), np.random.default_rng(1)
    env.reset(generator)
    for step in range(1, 13):
        env.step(generator.integers(3, size=60), out)
        is_over = step % 6 == 0
        assert out.any_done == is_over
        assert (out.terminated == is_over).all()
        assert not out.truncated.any()
        if not is_over:
            assert not out.rewards.any()
            np.testing.assert_array_equal(out.observations, out.final_observations)
            continue
        bottom = out.final_observations.reshape(60, 7, 4)[:, -1]
        caught = bottom.sum(axis=1) == 1.0  # one bright field: the ball is on the paddle
        np.testing.assert_array_equal(out.rewards, np.where(caught, 1.0, -1.0))
        assert 0 < caught.sum() < 60
        np.testing.assert_array_equal(out.observations.reshape(60, 7, 4)[:, 0].sum(axis=1), 1.0)


def test_walls_stop_the_paddle():
    env = Catch([{}, {}], rows=9, columns=5)
    env.reset(np.random.default_rng(0))
    for _ in range(7):
        env.step(np.array([LEFT, RIGHT]), buffers(env))
    np.testing.assert_array_equal(columns(env)[1], [0, 4])


def test_whoever_follows_a_ball_that_falls_straight_always_catches_it():
    env = Catch([{}] * 50)
    out = buffers(env)
    env.reset(np.random.default_rng(2))
    for _ in range(3 * 9):
        env.step(follow(env), out)
        if out.any_done:
            assert (out.rewards == 1.0).all()


def test_balls_move_sideways_as_often_as_their_world_says():
    """Far from the walls; four deviations of a mean over 40 000 draws are 0.01."""
    drifts = np.repeat([0.0, 0.3, 1.0], 1000)
    env = Catch([{"drift": drift} for drift in drifts], rows=42, columns=1001)
    env.reset(np.random.default_rng(3))
    out, moves = buffers(env), []
    before, _ = columns(env)
    for _ in range(40):
        env.step(np.full(3000, STAY), out)
        after, _ = columns(env)
        moves.append(after - before)
        before = after
    sideways = np.array(moves).reshape(40, 3, 1000)
    assert set(np.unique(sideways)) == {-1, 0, 1}
    np.testing.assert_allclose((sideways != 0).mean(axis=(0, 2)), [0.0, 0.3, 1.0], atol=0.01)
    np.testing.assert_allclose(sideways.mean(axis=(0, 2)), 0.0, atol=0.02)


def test_starts_are_uniform():
    env = Catch([{}] * 20_000)
    env.reset(np.random.default_rng(5))
    np.testing.assert_allclose(np.bincount(columns(env)[0]) / 20_000, 0.1, atol=0.01)


def test_what_one_board_draws_does_not_depend_on_the_drift_of_another():
    calm, mixed = Catch([{}] * 2), Catch([{}, {"drift": 0.5}])
    for env in (calm, mixed):
        env.reset(np.random.default_rng(4))
        for _ in range(20):
            env.step(np.array([STAY, STAY]), buffers(env))
    assert columns(calm)[0][0] == columns(mixed)[0][0]


def test_it_goes_on_from_its_state():
    contexts = [{"drift": 0.1 * i} for i in range(5)]
    unbroken, resumed = Catch(contexts), Catch(contexts)
    out, again = buffers(unbroken), buffers(resumed)
    actions = np.random.default_rng(0).integers(3, size=(30, 5))
    unbroken.reset(np.random.default_rng(6))
    for action in actions[:13]:
        unbroken.step(action, out)
    np.testing.assert_array_equal(resumed.set_state(unbroken.get_state()), out.observations)
    for env in (unbroken, resumed):
        env.reseed(np.random.default_rng(7))
    for action in actions[13:]:
        unbroken.step(action, out)
        resumed.step(action, again)
        for name in RESULTS:
            np.testing.assert_array_equal(getattr(out, name), getattr(again, name))


def test_the_state_of_other_boards_is_refused():
    state = Catch([{}] * 2).get_state() | {"height": 9}
    with pytest.raises(ValueError, match=r"2 boards, .* these are 3 boards"):
        Catch([{}] * 3).set_state(state)
    with pytest.raises(ValueError, match=r"at height 9 .* of 5 rows"):
        Catch([{}] * 2, rows=5).set_state(state)
    with pytest.raises(ValueError, match=r"in columns up to 4; .* 3 columns"):
        Catch([{}] * 2, columns=3).set_state(state | {"ball": np.array([0, 4])})


def test_a_drift_or_a_board_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"drift = 1.5 .* must be in \[0, 1\]"):
        Catch([{"drift": 1.5}])
    with pytest.raises(ValueError, match="board of 1 rows"):
        Catch([{}], rows=1)


def test_it_is_made_from_its_name():
    env = make_environment(EnvironmentConfig(id="Catch", kwargs={"columns": 5}), [{}])
    assert env.observation_shape == (10, 5, 1)
