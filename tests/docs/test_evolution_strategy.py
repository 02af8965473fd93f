"""Evolution strategies: identities of ranks and estimate, and what every learner promises."""

import numpy as np
import pytest
from evolution_strategy import centred_ranks, estimate
from learners import budget, check_resume, make_learner

OWN = {
    "learner.name": "own",
    "learner.id": "evolution_strategy:EvolutionStrategy",
    "learner.budget": "16",
    "learner.kwargs": "{pairs = 2}",
    "learner.network.hidden": "[8]",
    "environment.num_envs": "2",
}
ENVIRONMENTS = ["CartPole-v1", "Pendulum-v1"]


def test_ranks_lie_evenly_around_zero_whatever_the_returns_are():
    returns = np.array([[3.0, -1e9], [7.0, 5.0]])
    expected = np.array([[-1, -3], [3, 1]]) / 6
    np.testing.assert_allclose(centred_ranks(returns), expected, rtol=1e-6)
    np.testing.assert_array_equal(centred_ranks(returns), centred_ranks(np.arctan(returns)))


def test_equal_returns_share_their_rank_and_equal_pairs_give_no_gradient():
    np.testing.assert_allclose(centred_ranks(np.array([[1.0, 1.0], [2.0, 0.0]])), [[0, 0], [0.5, -0.5]])
    directions = np.random.default_rng(0).standard_normal((4, 9), np.float32)
    np.testing.assert_array_equal(estimate(directions, centred_ranks(np.ones((4, 2))), 0.1), np.zeros(9))


def test_the_estimate_of_a_linear_function_is_its_slope_on_average():
    """``F(x) = a x`` gives ``1 / n sum (a e_i) e_i``: a, with a deviation of about |a| sqrt(d / n)."""
    generator, noise = np.random.default_rng(0), 0.1
    slope = generator.standard_normal(5).astype(np.float32)
    directions = generator.standard_normal((20_000, 5), np.float32)
    rise = noise * directions @ slope
    found = estimate(directions, np.stack([rise, -rise], axis=1), noise)
    np.testing.assert_allclose(found, slope, atol=5 * np.linalg.norm(slope) / np.sqrt(20_000 / 5))


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("engine", ["numpy", "torch"])
def test_resumed_training_equals_unbroken_training(environment, engine):
    check_resume(OWN | {"environment.id": environment}, engine)


@pytest.mark.parametrize(("work", "generations"), [("1", 1), ("16", 2), ("23", 2)])
def test_a_round_is_made_of_whole_generations(work, generations):
    config, learner = make_learner(OWN | {"learner.budget": work})
    stats = learner.train(budget(config, 1))
    assert stats.gradient_steps == generations
    assert len(stats.episodes) == 8 * generations
    assert stats.env_steps == sum(length for _, length in stats.episodes)


def test_both_engines_take_the_same_first_step():
    params = []
    for engine in ("numpy", "torch"):
        config, learner = make_learner(OWN | {"learner.budget": "8"}, engine)
        learner.train(budget(config, 1))
        params.append(learner.params.copy())
    np.testing.assert_allclose(*params, rtol=1e-3, atol=1e-4)


def test_a_held_optimiser_leaves_the_model_and_gives_the_mean_gradient():
    config, learner = make_learner(OWN, holds_steps=True)
    before = learner.params.copy()
    learner._objective.begin(before)
    learner.train(budget(config, 1))
    np.testing.assert_array_equal(learner.params, before)
    assert learner._objective.mean_gradient(len(before)).any()


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="must be above 0"):
        make_learner(OWN | {"learner.kwargs": "{pairs = 0}"})


def test_it_balances_a_pole():
    settings = {"learner.budget": "128", "learner.lr": "0.03", "learner.kwargs": "{pairs = 16}"}
    config, learner = make_learner(OWN | settings)
    for round in range(1, 13):
        stats = learner.train(budget(config, round))
    assert np.mean([total for total, _ in stats.episodes]) > 250.0
