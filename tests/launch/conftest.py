"""Start the program under mpirun, as a user does."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

SMALL = [
    "--environment.num_envs=2",
    "--learner.budget=64",
    "--learner.num_steps=16",
    "--learner.num_minibatches=2",
    "--learner.network.hidden=[8,8]",
    "--evaluation.episodes=1",
]
TIME_LIMIT_S = 90


@pytest.fixture
def small() -> list[str]:
    """Arguments that make every round a matter of milliseconds."""
    return SMALL


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start ``mpirun -n RANKS python -m fdrl_mpi.train ARGUMENTS`` in an empty directory."""
    environment = {
        **os.environ,
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PYTHONUNBUFFERED": "1",
    }
    started: list[subprocess.Popen[str]] = []

    def launch(ranks: int, *arguments: str, mpirun: Sequence[str] = ()) -> subprocess.Popen[str]:
        command = [
            "mpirun",
            *mpirun,
            "-n",
            str(ranks),
            "--oversubscribe",
            sys.executable,
            "-m",
            "fdrl_mpi.train",
        ]
        process = subprocess.Popen(
            [*command, *SMALL, *arguments],
            cwd=tmp_path,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            errors="replace",
        )
        started.append(process)
        return process

    yield launch
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait(TIME_LIMIT_S)


@pytest.fixture
def finish(start) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Start a run and wait for its end."""

    def run(ranks: int, *arguments: str, **how: Any) -> subprocess.CompletedProcess[str]:
        process = start(ranks, *arguments, **how)
        out, err = process.communicate(timeout=TIME_LIMIT_S)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return run
