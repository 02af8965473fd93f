"""What every learner promises: both engines learn alike, and a resumed training equals an unbroken one."""

import numpy as np
import pytest
from learners import budget, check_resume, make_learner

SMALL = {
    "ppo": {"learner.num_steps": "16", "learner.budget": "64", "environment.num_envs": "2"},
    "a2c": {"learner.budget": "80", "environment.num_envs": "2"},
    "reinforce": {"learner.batch_episodes": "4", "learner.budget": "8", "environment.num_envs": "2"},
    "svrpg": {"learner.batch_episodes": "4", "learner.budget": "8", "environment.num_envs": "2"},
    "dqn": {
        "learner.budget": "120",
        "environment.num_envs": "2",
        "learner.learning_starts": "32",
        "learner.batch_size": "16",
        "learner.buffer_size": "64",
        "learner.target_every": "40",
    },
}
SMALL["sac"] = {
    "environment.id": "Pendulum-v1",
    "learner.budget": "80",
    "environment.num_envs": "2",
    "learner.learning_starts": "32",
    "learner.batch_size": "16",
    "learner.buffer_size": "64",
}
TABULAR = {
    "q_learning": {"environment.id": "RandomMDP", "learner.budget": "300", "environment.num_envs": "3"},
    "td": {"environment.id": "RewardProcess", "learner.budget": "60", "environment.num_envs": "2"},
    "q_averaging": {"environment.id": "RandomMDP", "learner.budget": "4", "environment.num_envs": "1"},
}
RAINBOW = SMALL["dqn"] | {
    "learner.double": "true",
    "learner.dueling": "true",
    "learner.prioritised": "true",
    "learner.n_step": "3",
    "learner.loss": "huber",
    "learner.federate_target": "true",
}
CASES = [*list(SMALL.items()), ("dqn", RAINBOW)]
IDS = [*SMALL, "rainbow"]
TINY = {"learner.network.hidden": "[8]"}


@pytest.mark.parametrize("engine", ["numpy", "torch"])
@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_resumed_training_equals_unbroken_training(name: str, options: dict[str, str], engine: str) -> None:
    check_resume({"learner.name": name, **TINY, **options}, engine)


@pytest.mark.parametrize("method", ["q_learning", "sarsa", "expected_sarsa"])
def test_resumed_table_equals_unbroken_table(method: str) -> None:
    check_resume({"learner.name": "q_learning", "learner.method": method, **TABULAR["q_learning"]}, "numpy")


@pytest.mark.parametrize("name", ["td", "q_averaging"])
def test_resumed_values_equal_unbroken_values(name: str) -> None:
    check_resume({"learner.name": name, **TABULAR[name]}, "numpy")


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_engines_take_the_same_first_steps(name: str, options: dict[str, str]) -> None:
    """Float32 rounding differs; after few steps the models still agree to five digits."""
    overrides = {"learner.name": name, **TINY, **options}
    params = []
    for engine in ("numpy", "torch"):
        config, learner = make_learner(overrides, engine)
        learner.train(budget(config, 1))
        params.append(learner.params.copy())
    np.testing.assert_allclose(*params, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_training_changes_the_model_and_reports_finite_means(name: str, options: dict[str, str]) -> None:
    config, learner = make_learner({"learner.name": name, **TINY, **options})
    before = learner.params.copy()
    stats = learner.train(budget(config, 1))
    assert (learner.params != before).any()
    assert stats.env_steps > 0
    assert stats.gradient_steps > 0
    assert all(np.isfinite(value) for value in stats.means.values())


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_a_held_optimiser_leaves_the_model_and_gives_the_mean_gradient(
    name: str, options: dict[str, str]
) -> None:
    overrides = {"learner.name": name, **TINY, **options}
    config, learner = make_learner(overrides, holds_steps=True)
    before = learner.params.copy()
    objective = learner._objective
    objective.begin(before)
    learner.train(budget(config, 1))
    np.testing.assert_array_equal(learner.params, before)
    assert np.isfinite(objective.mean_gradient(len(before))).all()
    assert objective.mean_gradient(len(before)).any()


@pytest.mark.parametrize("name", ["ppo", "a2c", "reinforce"])
def test_a_strong_proximal_term_keeps_the_model_near_its_anchor(name: str) -> None:
    overrides = {
        "learner.name": name,
        **TINY,
        **SMALL[name],
        "learner.optimiser": "sgd",
        "learner.lr": "0.01",
    }
    moved = []
    for mu in (0.0, 50.0):
        config, learner = make_learner(overrides, proximal=mu)
        before = learner.params.copy()
        learner._objective.begin(before)
        learner.train(budget(config, 1))
        moved.append(np.linalg.norm(learner.params - before))
    assert moved[1] < moved[0]
