"""What an agent hands in, and what a training that diverged leaves behind: nothing."""

import numpy as np
from scripted import BUDGET, scripted

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
