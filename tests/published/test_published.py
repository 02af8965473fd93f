"""Published results, repeated through the MPI program; `fdrl_mpi.reproduce` has the full budgets.

Each experiment judges itself: what is compared, with which tolerance and why, stands in its file in
`fdrl_mpi/published/`. Those of under a minute run here.
"""

import json
import subprocess
import sys
from io import StringIO
from math import nan
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fdrl_mpi import reproduce
from fdrl_mpi.published.catalogue import EXPERIMENTS
from fdrl_mpi.published.experiment import Comparison, Laboratory
from fdrl_mpi.published.fedpg import CURVES, _allowed
from fdrl_mpi.published.importance import LOCAL_STEPS, _steps_to_goal
from fdrl_mpi.reproduce import Teller, main

SHORT = ["qavg", "windy-cliff", "fedtd", "importance"]


@pytest.mark.launch
@pytest.mark.parametrize("name", SHORT)
def test_published_numbers_come_out(name: str) -> None:
    ranks = str(EXPERIMENTS[name].num_ranks)
    command = ["mpirun", "-n", ranks, "--oversubscribe", sys.executable, "-m", "fdrl_mpi.reproduce", name]
    done = subprocess.run(
        [*command, "--json"],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.strip().splitlines()[-1].replace("Infinity", "1e999"))
    assert found
    assert all(one["low"] <= one["ours"] <= one["high"] for one in found)
    assert "run 1 (" in done.stderr


def test_every_experiment_says_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["LIST"]) == 0
    listed = capsys.readouterr().out
    for name, experiment in EXPERIMENTS.items():
        assert f"{name}: {experiment.title}" in listed
        assert f"mpirun -n {experiment.num_ranks} python -m fdrl_mpi.reproduce {name}" in listed


def test_an_unknown_experiment_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["qavgg"]) == 2
    assert "LIST" in capsys.readouterr().err


def test_a_goal_that_is_never_reached_is_infinitely_far() -> None:
    assert _steps_to_goal(np.array([0.9, 0.3, 0.2, 0.1])) == 2 * LOCAL_STEPS
    assert _steps_to_goal(np.array([0.9, 0.3])) == np.inf


def test_a_number_without_bounds_is_told_and_only_a_missing_one_fails() -> None:
    told = Comparison("return", None, 358.8)
    assert told.holds
    assert not Comparison("return", None, np.nan).holds
    table = reproduce._table(EXPERIMENTS["fedavg-dqn"], [told, Comparison("gain", None, 26.0, 10.0, np.inf)])
    assert [line.split()[-1] for line in table.splitlines()[-2:]] == ["–", "inf"]


def test_runs_are_told_as_they_begin_but_not_more_often_than_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, told = [100.0], StringIO()
    monkeypatch.setattr(reproduce.time, "monotonic", lambda: now[0])
    teller = Teller(2.0, told)
    for seconds in (0.0, 9.0, 3.0, 3.0, 90.0):
        now[0] += seconds
        teller("fedtd")
    assert told.getvalue().splitlines() == [
        "run 1 (fedtd) begins; 0.0 of about 2 minutes",
        "run 3 (fedtd) begins; 0.2 of about 2 minutes",
        "run 5 (fedtd) begins; 1.8 of about 2 minutes",
    ]


def test_every_run_of_a_laboratory_is_told(tmp_path: Path) -> None:
    world = SimpleNamespace(part=lambda *size: None, barrier=lambda: None, is_root=False)
    told: list[str] = []
    laboratory = Laboratory(world, tmp_path, False, told.append)  # type: ignore[arg-type]
    assert laboratory.train("first", 2, {}) is None
    assert laboratory.train("second", 2, {}) is None
    assert told == ["first", "second"]


def test_number_that_is_not_known_is_a_dash_and_does_not_hold() -> None:
    table = reproduce._table(EXPERIMENTS["fedtd"], [Comparison("error", None, nan, 0.0, 1.0)])
    assert table.splitlines()[-1].split() == ["error", "–", "–", "0", "to", "1", "<-", "does", "not", "hold"]


def test_agents_that_learn_nothing_do_not_pass_for_fedpg() -> None:
    """An untrained policy's return is about 10: every curve of the figure has a point that refuses it."""
    for name, curve in CURVES.items():
        assert any(_allowed(name, episodes)[0] > 10.0 for episodes in curve), name
        assert all(
            low <= curve[episodes] <= high for episodes in curve for low, high in [_allowed(name, episodes)]
        )
