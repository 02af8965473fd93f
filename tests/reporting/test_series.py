"""Derived series against numbers worked out by hand."""

import numpy as np
import pytest

from fdrl_mpi.record.metrics_file import Metrics
from fdrl_mpi.record.variables import VARIABLES
from fdrl_mpi.reporting.series import (
    exact_measures,
    last_evaluation,
    learning_curve,
    mean_of_present,
    moved_bytes,
    over_agents,
    share_outside_training,
    summarise,
)

NAN = np.nan


def metrics(num_rounds: int, num_agents: int, **values: object) -> Metrics:
    """Fill in NaN for every variable that is not given."""
    shapes = {
        v.name: (num_rounds, num_agents) if "agent" in v.dimensions else (num_rounds,) for v in VARIABLES
    }
    known = {name: np.array(value, dtype=np.float64).reshape(shapes[name]) for name, value in values.items()}
    return Metrics(
        attributes={},
        rounds=np.arange(1, num_rounds + 1),
        agents=np.arange(1, num_agents + 1),
        values={name: np.full(shape, NAN) for name, shape in shapes.items()} | known,
        agent_facts={},
    )


THREE_ROUNDS = metrics(
    3,
    2,
    present=[[1, 1], [1, 0], [1, 1]],
    env_steps=[[10, 20], [30, NAN], [NAN, 5]],
    sent_bytes=[[1, 2], [NAN, NAN], [4, NAN]],
    root_sent_bytes=[100, NAN, 200],
    end_wall_s=[1.0, 2.0, 4.0],
    round_s=[1.0, 1.0, 2.0],
    train_s=[[0.5, 0.7], [0.8, 99.0], [1.5, NAN]],
    wait_s=[[0.3, 0.1], [0.1, 99.0], [0.25, NAN]],
    exchange_s=[[0.2, 0.2], [0.1, 99.0], [0.25, NAN]],
    evaluation_return=[[1, 3], [NAN, NAN], [8, NAN]],
)


def test_curve_has_the_evaluated_rounds_and_the_costs_of_all_rounds() -> None:
    curve = learning_curve(THREE_ROUNDS)
    np.testing.assert_array_equal(curve.rounds, [1, 3])
    np.testing.assert_array_equal(curve.env_steps, [30, 65])
    np.testing.assert_array_equal(curve.wall_s, [1.0, 4.0])
    np.testing.assert_array_equal(curve.moved_bytes, [103, 307])


def test_curve_leaves_out_agents_that_were_not_evaluated() -> None:
    curve = learning_curve(THREE_ROUNDS)
    np.testing.assert_array_equal(curve.mean, [2, 8])
    np.testing.assert_array_equal(curve.worst, [1, 8])
    np.testing.assert_allclose(curve.low, [1.2, 8])
    np.testing.assert_allclose(curve.high, [2.8, 8])


def test_sums_are_nan_only_where_nothing_is_known() -> None:
    np.testing.assert_array_equal(over_agents(THREE_ROUNDS, "sent_bytes"), [3, NAN, 4])
    np.testing.assert_array_equal(moved_bytes(THREE_ROUNDS), [103, NAN, 204])


def test_absent_agents_do_not_count_into_means() -> None:
    np.testing.assert_allclose(mean_of_present(THREE_ROUNDS, "train_s"), [0.6, 0.8, 1.5])


def test_mean_over_nobody_is_nan() -> None:
    nobody = metrics(1, 2, present=[[0, 0]], train_s=[[1.0, 2.0]])
    np.testing.assert_array_equal(mean_of_present(nobody, "train_s"), [NAN])


def test_share_outside_training_is_that_of_the_agents_time() -> None:
    np.testing.assert_allclose(share_outside_training(THREE_ROUNDS), [0.4, 0.2, 0.25])


def test_round_without_duration_has_no_share() -> None:
    np.testing.assert_array_equal(share_outside_training(metrics(1, 1, present=[1], train_s=[0])), [NAN])


def test_summary_agrees_with_a_count_by_hand() -> None:
    summary = summarise(THREE_ROUNDS)
    assert (summary.last_round, summary.num_agents) == (3, 2)
    assert (summary.env_steps, summary.wall_s, summary.env_steps_per_s) == (65.0, 4.0, 16.25)
    assert summary.bytes_per_round == (103 + 204) / 2
    assert summary.share_outside_training == pytest.approx(1.0 - 2.9 / 4.0)  # of 1 + 1 + 2 seconds
    assert (summary.evaluated_round, summary.mean_return) == (3, 8.0)
    assert (summary.worst_return, summary.worst_agent) == (8.0, 1)
    assert summary.exact == {}


def test_curve_of_an_error_has_the_largest_as_its_worst() -> None:
    errors = metrics(3, 2, table_error=[[0.5, 0.25], [NAN, NAN], [0.125, NAN]], env_steps=[[1, 1]] * 3)
    curve = learning_curve(errors, "table_error")
    np.testing.assert_array_equal(curve.rounds, [1, 3])
    np.testing.assert_array_equal(curve.env_steps, [2, 6])
    np.testing.assert_array_equal(curve.mean, [0.375, 0.125])
    np.testing.assert_array_equal(curve.worst, [0.5, 0.125])
    np.testing.assert_array_equal(
        learning_curve(metrics(1, 2, exact_return=[1, 3]), "exact_return").worst, [1]
    )
    assert exact_measures(errors) == ["table_error"]
    assert summarise(errors).exact == {"table_error": 0.125}


@pytest.mark.parametrize("num_rounds", [0, 2])
def test_summary_of_a_run_that_knows_nothing_is_nan(num_rounds: int) -> None:
    summary = summarise(metrics(num_rounds, 3))
    assert (summary.evaluated_round, summary.worst_agent) == (None, None)
    assert summary.env_steps == 0.0
    assert np.isnan([summary.wall_s, summary.env_steps_per_s, summary.bytes_per_round]).all()
    assert np.isnan([summary.mean_return, summary.worst_return, summary.share_outside_training]).all()


def test_run_without_evaluation_has_an_empty_curve() -> None:
    curve = learning_curve(metrics(4, 2))
    assert all(len(values) == 0 for values in vars(curve).values())


def test_last_evaluation_is_the_newest() -> None:
    evaluation = last_evaluation(THREE_ROUNDS)
    assert evaluation.round == 3
    np.testing.assert_array_equal(evaluation.returns, [8, NAN])
