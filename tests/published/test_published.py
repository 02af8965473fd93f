"""Published results, repeated through the MPI program; `fdrl_mpi.reproduce` has the full budgets.

Each experiment judges itself: what is compared, with which tolerance and why, stands in its file in
`fdrl_mpi/published/`. Those of under a minute run here.
"""

import json
import subprocess
import sys

import numpy as np
import pytest

from fdrl_mpi.published.catalogue import EXPERIMENTS
from fdrl_mpi.published.experiment import Comparison
from fdrl_mpi.published.importance import LOCAL_STEPS, _steps_to_goal
from fdrl_mpi.reproduce import _table, main

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
    table = _table(EXPERIMENTS["fedavg-dqn"], [told, Comparison("gain", None, 26.0, 10.0, np.inf)])
    assert [line.split()[-1] for line in table.splitlines()[-2:]] == ["-", "inf"]
