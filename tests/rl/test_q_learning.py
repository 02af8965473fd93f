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
    overrides = RANDOM | {
        "environment.num_envs": "200",
        "learner.behaviour": "uniform",
        "learner.lr": "0.005",
        "environment.kwargs": "{max_episode_steps = 1000}",
    }
    config, learner = make_learner(overrides)
    for round in range(1, 5):
        learner.train(budget(config, round, work=200_000))
    process = learner._environment
    assert isinstance(process, KnownProcess)
    exact = optimal_action_values(process.kernels[0], process.rewards_table, 0.9)
    np.testing.assert_allclose(learner._table, exact, rtol=0.02)


def test_sarsa_with_uniform_behaviour_values_the_uniform_policy() -> None:
    """Its fixed point solves ``Q = r + gamma P mean_a Q``: within 3 %; expected SARSA's is the same."""
    for method in ("sarsa", "expected_sarsa"):
        overrides = RANDOM | {
            "environment.num_envs": "200",
            "learner.method": method,
            "learner.behaviour": "uniform",
            "learner.lr": "0.005",
            "environment.kwargs": "{max_episode_steps = 1000}",
        }
        config, learner = make_learner(overrides)
        for round in range(1, 5):
            learner.train(budget(config, round, work=200_000))
        process = learner._environment
        assert isinstance(process, KnownProcess)
        kernel = process.kernels[0].reshape(25, 5).repeat(5, axis=1) / 5.0
        exact = np.linalg.solve(np.eye(25) - 0.9 * kernel, process.rewards_table.ravel())
        np.testing.assert_allclose(learner.params, exact, rtol=0.03)


def test_weights_grow_with_visits_and_never_overflow() -> None:
    """``(1 - lr)^-N`` over its largest value: 1 for an entry that had all steps, and never 0."""
    learner = _learner(learner__lr="0.5")
    learner._work, learner._lr = 1000, 0.5
    learner._visits[:] = 0.0
    learner._visits[:3] = [1000.0, 999.0, 990.0]
    weights = learner.coordinate_weights()
    np.testing.assert_allclose(weights[:3], [1.0, 0.5, 0.5**10], rtol=1e-6)
    assert (weights > 0.0).all()


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
