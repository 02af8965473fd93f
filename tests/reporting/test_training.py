"""The panels of the agents' training: those of what was recorded, and nothing invisible in them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes

from fdrl_mpi.record.metrics import MetricsRecord
from fdrl_mpi.reporting.runs import Run, load_run, load_runs
from fdrl_mpi.reporting.style import marked
from fdrl_mpi.reporting.training import MOST, QUANTITIES, draw_agents, recorded

MakeRun = Callable[..., Path]
PPO = ["train_return", "policy_loss", "value_loss", "entropy", "approx_kl", "update_norm"]
DQN = ["train_return", "q_loss", "q_value", "epsilon", "update_norm", "gradient_norm"]
SAC = ["train_return", "policy_loss", "q_loss", "entropy", "temperature", "update_norm"]


def run_with(path: Path, names: list[str], values: object = (1.0, 2.0)) -> Run:
    path.mkdir()
    record = MetricsRecord(path / "metrics.h5", [1, 2], {}, {})
    for round in (1, 2):
        record.append(round, {"present": np.ones(2)} | {name: np.array(values) for name in names})
    record.write()
    return load_run(path)


def panels(axes: list[Axes]) -> dict[str, Axes]:
    return {each.get_title().partition(" (")[0]: each for each in axes if each.axison}


@pytest.mark.parametrize(
    ("also", "shown"),
    [
        (["clip_fraction", "gradient_norm", *PPO], PPO),
        (DQN, DQN),
        (["gradient_norm", *SAC], SAC),
        (["table_error", "train_return", "update_norm"], ["table_error", "train_return", "update_norm"]),
        (["exact_return", "train_objective"], ["exact_return", "train_objective"]),
    ],
    ids=["ppo", "dqn", "sac", "td", "q_averaging"],
)
def test_panels_are_those_of_what_a_learner_records(
    tmp_path: Path, also: list[str], shown: list[str]
) -> None:
    run = run_with(tmp_path / "run", also)
    assert recorded(run.metrics) == shown
    assert list(panels(draw_agents([run]).axes)) == [QUANTITIES[name] for name in shown]
    assert len(shown) <= MOST


def test_what_is_nowhere_finite_has_no_panel(tmp_path: Path) -> None:
    assert recorded(run_with(tmp_path / "run", ["q_loss"], (np.nan, np.inf)).metrics) == []
    assert recorded(run_with(tmp_path / "some", ["q_loss"], (np.nan, 0.0)).metrics) == ["q_loss"]


def test_runs_of_different_learners_have_their_own_panels_and_share_scales(tmp_path: Path) -> None:
    small = run_with(tmp_path / "small", ["train_return", "q_loss"], (1.0, 2.0))
    large = run_with(tmp_path / "large", ["policy_loss", "train_return"], (10.0, 20.0))
    figure = draw_agents([small, large])
    first, second = (panels(part.axes) for part in figure.subfigs)
    assert list(first) == ["training return", "action value loss"]
    assert list(second) == ["training return", "policy loss"]
    assert first["training return"].get_ylim() == second["training return"].get_ylim()
    assert first["action value loss"].get_ylim()[1] < 3.0


def test_run_without_a_round_says_so(make_run: MakeRun) -> None:
    (run,) = load_runs([make_run(num_rounds=0)])
    texts = [text.get_text() for axes in draw_agents([run]).axes for text in axes.texts]
    assert texts == ["nothing recorded yet"]


def test_few_points_are_all_marked() -> None:
    assert marked(np.arange(30.0)).all()
    assert not marked(np.arange(31.0)).any()


def test_of_many_points_those_between_gaps_are_marked() -> None:
    values = np.full(100, np.nan)
    values[[0, 20, 40, 41, 60, 99]] = 1.0
    assert np.flatnonzero(marked(values)).tolist() == [0, 20, 60, 99]


def test_sparse_series_is_drawn_with_markers(tmp_path: Path) -> None:
    record = MetricsRecord(tmp_path / "metrics.h5", [1], {}, {})
    for round in range(1, 61):
        values = {"train_return": np.array([5.0])} if round % 20 == 0 else {}
        record.append(round, {"present": np.ones(1)} | values)
    record.write()
    (axes,) = panels(draw_agents([load_run(tmp_path)]).axes).values()
    for line in axes.lines:
        assert line.get_marker() == "o"
        assert np.flatnonzero(line.get_markevery()).tolist() == [19, 39, 59]
