"""The lines a user reads: the measure that tells most, its unit, and no number where none is known."""

import logging
from dataclasses import replace
from math import nan

import numpy as np
import pytest

from fdrl_mpi.federation.rows import exact_means, named_columns
from fdrl_mpi.federation.synchronous import End, Progress
from fdrl_mpi.progress import Teller, result_text
from fdrl_mpi.record.variables import AGENT_VARIABLES

SAMPLED = Progress(
    round=3,
    rounds=3,
    evaluated_round=2,
    mean_return=75.64,
    worst_return=72.2,
    train_return=70.0,
    exact={},
    env_steps=2000.0,
    gradient_steps=10.0,
    sent_bytes=500.0,
    round_s=0.5,
    wall_s=1.5,
)
SWEPT = replace(SAMPLED, exact={"exact_return": 7.56805}, env_steps=0.0, train_return=nan)


def told(caplog: pytest.LogCaptureFixture, progress: Progress, unit: str = "steps") -> str:
    caplog.set_level(logging.INFO)
    caplog.clear()
    Teller("lines", unit)(progress)
    (line,) = caplog.messages
    return line


def end(returns: list[float] | None, exact: dict[str, float] | None = None) -> End:
    return End("finished", 3, "all", None if returns is None else np.array(returns), exact or {}, 1.5)


def test_line_of_a_learner_that_samples(caplog: pytest.LogCaptureFixture) -> None:
    assert told(caplog, SAMPLED) == (
        "round 3/3  return 75.6 (worst agent 72.2) after round 2  training 70.0  4 k steps/s  500 B sent  "
        "ETA 0 s"
    )


def test_exact_learner_tells_its_measure_and_its_sweeps(caplog: pytest.LogCaptureFixture) -> None:
    assert told(caplog, SWEPT, "sweeps") == (
        "round 3/3  mean exact return 7.568  return 75.6 (worst agent 72.2) after round 2  20 sweeps/s  "
        "500 B sent  ETA 0 s"
    )


def test_error_of_a_table_replaces_the_return_that_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    line = told(caplog, replace(SAMPLED, exact={"table_error": 0.01182}, evaluated_round=0))
    assert line.startswith("round 3/3  mean table error 0.01182  training 70.0  ")


def test_what_is_not_known_is_a_dash(caplog: pytest.LogCaptureFixture) -> None:
    unknown = {"mean_return": nan, "worst_return": nan, "train_return": nan, "env_steps": 0.0}
    line = told(caplog, replace(SAMPLED, **unknown))
    assert "return – (worst agent –) after round 2  training –  0 steps/s" in line
    assert "nan" not in line + result_text(end([nan, nan])) + result_text(end([nan, 2.0]))


def test_end_tells_exact_measures_before_the_return() -> None:
    assert result_text(end([3.0, 1.0], {"table_error": 0.25})) == (
        ": mean table error 0.25 in the last round; mean return 2.0, worst 1.0 (agent 2)"
    )
    assert result_text(end(None, {"table_error": 0.25})) == ": mean table error 0.25 in the last round"
    assert result_text(end(None)) == ""


def test_exact_means_are_over_the_agents_that_have_one() -> None:
    rows = np.full((3, len(AGENT_VARIABLES)), nan)
    rows[:2, AGENT_VARIABLES.index("table_error")] = 0.1, 0.3
    assert exact_means(named_columns(rows)) == {"table_error": pytest.approx(0.2)}
