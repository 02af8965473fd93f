"""What an agent hands in, and what a training that diverged leaves behind: nothing."""

import numpy as np
from scripted import BUDGET, scripted

from fdrl_mpi.build import make_participant, make_wire
from fdrl_mpi.build_agent import make_environment, make_model
from fdrl_mpi.config_file import read
from fdrl_mpi.federation.wire import Wire


def test_control_variates_follow_the_paper_over_two_rounds() -> None:
    """c_k becomes the mean gradient, and c - c_k corrects the next round (worked by hand)."""
    participant, learner, objective = scripted(Wire((slice(0, 2),), 2, company="controls"))
    learner.move, objective.gradient = 1.0, 3.0
    published = np.array([0, 0, 0.5, 0.5], np.float32)
    participant.train(published, BUDGET)
    np.testing.assert_array_equal(objective.correction, [0.5, 0.5])
    np.testing.assert_array_equal(participant.row, [1, 1, 3.5, 3.5])
    participant.accept()
    participant.train(published, BUDGET)
    np.testing.assert_array_equal(objective.correction, [-2.5, -2.5])


def test_a_control_variate_counts_only_with_its_update() -> None:
    participant, learner, objective = scripted(Wire((slice(0, 2),), 2, company="controls"))
    learner.move, objective.gradient = np.nan, np.nan
    published = np.zeros(4, np.float32)
    stats = participant.train(published, BUDGET)
    assert not np.isfinite(participant.update_norm(published, stats))
    participant.withdraw(published)
    assert np.isfinite(participant.row).all()
    learner.move, objective.gradient = 1.0, 1.0
    participant.train(published, BUDGET)
    np.testing.assert_array_equal(objective.correction, [0.0, 0.0])


def test_returns_that_are_not_finite_do_not_weigh() -> None:
    participant, learner, _ = scripted(Wire((slice(0, 2),), 2))
    learner.returns = [4.0, np.nan, np.inf]
    participant.train(np.zeros(2, np.float32), BUDGET)
    assert participant.recent_return == 4.0


def test_what_is_not_shared_stays_and_a_withdrawn_training_restores_it() -> None:
    participant, learner, _ = scripted(Wire((slice(1, 3),), 4))
    learner.params[:] = [7, 0, 0, 9]
    learner.move = 1.0
    participant.train(np.array([10, 20], np.float32), BUDGET)
    np.testing.assert_array_equal(participant.row, [11, 21])
    np.testing.assert_array_equal(learner.params, [8, 11, 21, 10])
    published = np.array([30, 40], np.float32)
    learner.move = np.nan
    participant.train(published, BUDGET)
    participant.withdraw(published)
    np.testing.assert_array_equal(learner.params, [8, 30, 40, 10])


def test_the_proximal_term_leaves_private_heads_alone() -> None:
    config = read([], [("learner.share", "trunk"), ("objective.proximal", "0.5")])
    environment = make_environment(config.environment, [{}] * config.environment.num_envs)
    wire = make_wire(config, make_model(config.learner, 0, environment, "numpy", "cpu"))
    participant = make_participant(
        config, wire, environment, "numpy", "cpu", np.zeros(wire.length, np.float32)
    )
    expected = np.zeros(wire.num_params, np.float32)
    wire.put(np.full(wire.num_shared, 0.5, np.float32), expected)
    strengths = participant._objective._strengths(slice(0, wire.num_params))
    assert 0 < np.count_nonzero(expected) < wire.num_params
    np.testing.assert_array_equal(strengths, expected)


def test_a_difference_is_what_was_added() -> None:
    participant, learner, _ = scripted(Wire((slice(1, 3),), 3, "difference"))
    learner.move = 0.25
    participant.train(np.array([8.0, -4.0], np.float32), BUDGET)
    np.testing.assert_array_equal(participant.row, [0.25, 0.25])
    np.testing.assert_array_equal(learner.params, [0.25, 8.25, -3.75])


def test_a_gradient_is_the_mean_of_the_round_wherever_the_model_is() -> None:
    participant, _, objective = scripted(Wire((slice(1, 3),), 3, "gradient"))
    objective.gradient = 3.0
    participant.train(np.array([8.0, -4.0], np.float32), BUDGET)
    np.testing.assert_array_equal(participant.row, [3.0, 3.0])


def test_a_weighed_table_is_handed_in_as_products_and_weights() -> None:
    participant, learner, _ = scripted(Wire((slice(0, 2),), 2, company="weights"))
    learner.move, learner.coordinate_weights = 1.0, lambda: np.array([0.5, 4.0], np.float32)
    participant.train(np.array([2.0, 9.0, 5.0, 9.0], np.float32), BUDGET)
    np.testing.assert_array_equal(learner.params, [3.0, 6.0])
    np.testing.assert_array_equal(participant.row, [1.5, 0.5, 24.0, 4.0])
