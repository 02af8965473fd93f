"""The curves that trackers show."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fdrl_mpi.record.metrics import MetricsRecord
from fdrl_mpi.record.variables import VARIABLES
from fdrl_mpi.reporting.runs import load_run
from fdrl_mpi.trackers.curves import MOST_AGENTS, Curve, agent_name, curves

MakeRun = Callable[..., Path]


def by_name(found: list[Curve], agent: int | None = None) -> dict[str, Curve]:
    return {curve.name: curve for curve in found if curve.agent == agent}


def test_curves_are_means_sums_and_the_numbers_of_the_root(make_run: MakeRun) -> None:
    found = by_name(curves(load_run(make_run()).metrics))
    values = {name: (curve.rounds.tolist(), curve.values.tolist()) for name, curve in found.items()}
    assert values["performance/evaluation_return"] == ([1, 3, 5], [18.0, 58.0, 98.0])
    assert values["performance/evaluation_return_worst"] == ([1, 3, 5], [17.0, 57.0, 97.0])
    assert values["performance/train_return"] == ([1, 2, 3, 4, 5], [12.0, 22.0, 32.0, 42.0, 52.0])
    assert values["agents/env_steps"][1] == [600.0] * 5
    np.testing.assert_allclose(values["agents/train_s"][1], 0.06)
    assert values["root/aggregate_s"][1] == [0.001] * 5
    assert "agents/q_loss" not in values  # no DQN


def test_each_agent_has_curves_of_its_own_under_the_names_of_the_means(make_run: MakeRun) -> None:
    metrics = load_run(make_run()).metrics
    own = by_name(curves(metrics), agent=3)
    assert own.keys() == {"performance/evaluation_return", "performance/train_return"}
    assert own.keys() <= by_name(curves(metrics)).keys()
    assert own["performance/train_return"].values.tolist() == [13.0, 23.0, 33.0, 43.0, 53.0]


def test_very_many_agents_have_none(make_run: MakeRun) -> None:
    found = curves(load_run(make_run(num_agents=MOST_AGENTS + 1, num_rounds=1)).metrics)
    assert {curve.agent for curve in found} == {None}


def test_every_variable_has_a_curve_once_it_is_known(tmp_path: Path) -> None:
    record = MetricsRecord(tmp_path / "metrics.h5", [1, 2], {}, {})
    record.append(1, {v.name: np.ones(2) if "agent" in v.dimensions else 1.0 for v in VARIABLES})
    record.write()
    found = by_name(curves(load_run(tmp_path).metrics))
    assert {name.partition("/")[2] for name in found} >= {variable.name for variable in VARIABLES}
    assert all(curve.description for curve in found.values())


@pytest.mark.parametrize(("num_agents", "name"), [(9, "agent_7"), (16, "agent_07"), (1024, "agent_0007")])
def test_names_of_agents_are_sorted_as_their_ids(make_run: MakeRun, num_agents: int, name: str) -> None:
    assert agent_name(load_run(make_run(num_agents=num_agents, num_rounds=0)).metrics, 7) == name
