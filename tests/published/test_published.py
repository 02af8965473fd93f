"""Published results, repeated through the MPI program; `fdrl_mpi.reproduce` has the full budgets.

Each experiment judges itself: what is compared, with which tolerance and why, stands in its file in
`fdrl_mpi/published/`. Those of under a minute run here.
"""

import json
import subprocess
import sys

import pytest

from fdrl_mpi.published.catalogue import EXPERIMENTS
from fdrl_mpi.published.fedpg import CURVES, _allowed
from fdrl_mpi.reproduce import main

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


def test_agents_that_learn_nothing_do_not_pass_for_fedpg() -> None:
    """An untrained policy's return is about 10: every curve of the figure has a point that refuses it."""
    for name, curve in CURVES.items():
        assert any(_allowed(name, episodes)[0] > 10.0 for episodes in curve), name
        assert all(
            low <= curve[episodes] <= high for episodes in curve for low, high in [_allowed(name, episodes)]
        )
