"""Tables: one step by hand, many at once as if one after another, and fixed points that are known."""

import numpy as np
import pytest
from learners import budget, make_learner

from fdrl_mpi.envs.finite_mdp import optimal_action_values
from fdrl_mpi.rl.q_learning import QLearning
from fdrl_mpi.rl.table import KnownProcess

RANDOM = {
    "learner.name": "q_learning",
    "environment.id": "RandomMDP",
    "environment.num_envs": "1",
    "learner.gamma": "0.9",
}


def _learner(**options: str) -> QLearning:
    _, learner = make_learner(RANDOM | {name.replace("__", "."): value for name, value in options.items()})
    return learner


def _trained(overrides: dict[str, str]) -> QLearning:
    """Train for long, with small steps in 200 environments at once."""
    many = {
        "environment.num_envs": "200",
        "learner.lr": "0.005",
        "environment.kwargs": "{max_episode_steps = 1000}",
    }
    config, learner = make_learner(RANDOM | many | overrides)
    for round in range(1, 5):
        learner.train(budget(config, round, work=200_000))
    return learner


def test_one_update_by_hand() -> None:
    """Q(0, 1) = 1, reward 3, the best of state 2 is 5: 1 + 0.1 (3 + 0.9 * 5 - 1) = 1.65."""
    learner = _learner()
    learner._table[:] = 0.0
    learner._table[0, 1], learner._table[2] = 1.0, [4.0, 5.0, 0.0, 0.0, 0.0]
    states = learner._states
    states.following[:], states.rewards[:], states.terminated[:] = 2, 3.0, False
    learner._update(np.array([0]), np.array([1]))
    assert learner._table[0, 1] == pytest.approx(1.65, rel=1e-6)
    states.terminated[:] = True
    learner._update(np.array([0]), np.array([1]))
    assert learner._table[0, 1] == pytest.approx(1.65 + 0.1 * (3.0 - 1.65), rel=1e-6)


def test_equal_pairs_move_as_if_one_after_another() -> None:
    """Three environments at the same pair with one target: 1 - (1 - lr)^3 of the way."""
    learner = _learner(environment__num_envs="4")
    learner._table[:] = 0.0
    states = learner._states
    states.following[:], states.rewards[:] = 0, [6.0, 6.0, 6.0, 2.0]
    learner._update(np.array([1, 1, 1, 3]), np.array([2, 2, 2, 0]))
    assert learner._table[1, 2] == pytest.approx(6.0 * (1.0 - 0.9**3), rel=1e-6)
    assert learner._table[3, 0] == pytest.approx(0.2, rel=1e-6)
    assert np.count_nonzero(learner._table) == 2
    assert learner._visits.reshape(5, 5)[1, 2] == 3.0


def test_many_environments_find_the_optimal_table() -> None:
    """200 environments, uniform behaviour, falling steps: within 2 % of the exact table."""
    learner = _trained({"learner.behaviour": "uniform"})
    process = learner._environment
    assert isinstance(process, KnownProcess)
    exact = optimal_action_values(process.kernels[0], process.rewards_table, 0.9)
    np.testing.assert_allclose(learner._table, exact, rtol=0.02)


def test_sarsa_with_uniform_behaviour_values_the_uniform_policy() -> None:
    """Its fixed point solves ``Q = r + gamma P mean_a Q``: within 3 %; expected SARSA's is the same."""
    for method in ("sarsa", "expected_sarsa"):
        learner = _trained({"learner.method": method, "learner.behaviour": "uniform"})
        process = learner._environment
        assert isinstance(process, KnownProcess)
        kernel = process.kernels[0].reshape(25, 5).repeat(5, axis=1) / 5.0
        exact = np.linalg.solve(np.eye(25) - 0.9 * kernel, process.rewards_table.ravel())
        np.testing.assert_allclose(learner.params, exact, rtol=0.03)


def test_weights_of_a_round_have_the_ratios_of_the_paper() -> None:
    """1000 steps, lr 0.1: an entry with n visits more than another weighs ``0.9^-n`` times as much."""
    config, learner = make_learner(RANDOM)
    learner.train(budget(config, 1, work=1000))
    visits, weights = learner._visits, learner.coordinate_weights().astype(np.float64)
    assert visits.sum() == 1000.0
    assert visits.max() - visits.min() > 10.0
    np.testing.assert_allclose(weights / weights[0], 0.9 ** (visits[0] - visits), rtol=1e-5)


def test_weights_of_any_visits_can_be_handed_in() -> None:
    """Positive, never falling with visits, and with squares and products that float32 holds."""
    learner = _learner(learner__lr="0.5")
    learner._lr = 0.5
    learner._visits[:] = np.linspace(0.0, 10_000.0, len(learner._visits))
    weights = learner.coordinate_weights()
    assert weights.dtype == np.float32
    assert (np.diff(weights) >= 0.0).all()
    assert (weights * np.float32(1e-6) > np.finfo(np.float32).tiny).all()
    assert np.isfinite(np.dot(weights * np.float32(1e5), weights * np.float32(1e5)))


def test_sarsa_at_a_time_limit_values_the_state_that_was_cut() -> None:
    """Cut in state 3, whose best action is worth 7; the one the new episode begins with is worth 1 there."""
    learner = _learner(learner__method="sarsa", learner__epsilon_start="0.0", learner__epsilon_end="0.0")
    learner._table[:] = 0.0
    learner._table[3, 2], learner._table[3, 4], learner._table[0, 4] = 7.0, 1.0, 9.0
    states, learner._explored = learner._states, np.array([-1])
    states.following[:], states.current[:], states.truncated[:] = 3, 0, True
    learner._actions = learner._behave(learner._explored, states.current)
    assert learner._following_values() == pytest.approx([7.0])


@pytest.mark.parametrize("method", ["sarsa", "expected_sarsa"])
def test_a_fixed_behaviour_is_valued_as_such(method: str) -> None:
    """Of 4 actions always action 0: its column solves ``Q = r + gamma P Q``, within 3 %."""
    learner = _trained(
        {
            "learner.method": method,
            "learner.behaviour": "fixed",
            "learner.epsilon_steps": "100",
            "environment.id": "TwoState",
            "environment.kwargs": "{num_actions = 4, max_episode_steps = 1000}",
        }
    )
    process = learner._environment
    assert isinstance(process, KnownProcess)
    exact = np.linalg.solve(np.eye(2) - 0.9 * process.kernels[0][:, 0], process.rewards_table[:, 0])
    np.testing.assert_allclose(learner._table[:, 0], exact, rtol=0.03)


def test_more_than_one_action_is_nothing_for_td() -> None:
    with pytest.raises(ValueError, match="without choices"):
        make_learner({"learner.name": "td", "environment.id": "RandomMDP"})


@pytest.mark.parametrize("name", ["q_learning", "td"])
def test_states_that_cannot_be_counted_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not the states of a finite process"):
        make_learner({"learner.name": name})


def test_sweeps_need_a_known_process() -> None:
    with pytest.raises(ValueError, match="kernel is known"):
        make_learner({"learner.name": "q_averaging"})


def test_a_gymnasium_environment_with_counted_states_is_learnt() -> None:
    """FrozenLake without slipping: the greedy policy reaches the goal."""
    overrides = {
        "learner.name": "q_learning",
        "environment.id": "gym:FrozenLake-v1",
        "environment.kwargs": "{is_slippery = false}",
        "environment.num_envs": "4",
        "learner.lr": "0.5",
        "learner.epsilon_end": "0.3",
    }
    config, learner = make_learner(overrides)
    learner.train(budget(config, 1, work=12_000))
    state, best = 0, learner._table.argmax(axis=1)
    for _ in range(6):
        state += {0: -1, 1: 4, 2: 1, 3: -4}[int(best[state])]
    assert state == 15
