"""How runs end: finished, stopped by a signal, killed, failed; and that they go on exactly."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fdrl_mpi.launch_flags import FLAGS
from fdrl_mpi.record.checkpoint import CheckpointStore
from fdrl_mpi.record.metrics_file import read_metrics

pytestmark = pytest.mark.launch
PATIENCE_S = 60
LONG = (
    "--rounds",
    "100000",
    "--checkpoint.every",
    "5",
    "--checkpoint.keep",
    "1000",
    "--evaluation.every",
    "7",
)


def _wait_for_checkpoint(run: Path, at_least: int = 1) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while len(CheckpointStore(run, 1).rounds()) < at_least:
        assert time.monotonic() < deadline, "no checkpoint within a minute"
        time.sleep(0.05)


def _ranks_of(mpirun: int) -> list[int]:
    children = Path(f"/proc/{mpirun}/task/{mpirun}/children").read_text().split()
    return [int(child) for child in children]


def _params(run: Path, round: int) -> np.ndarray:
    return CheckpointStore(run, 1).load(round, "global.h5")["params"]


def _unbroken(finish, tmp_path: Path, rounds: int) -> np.ndarray:
    assert finish(3, "--rounds", str(rounds), "--run.name", "unbroken").returncode == 0
    return _params(tmp_path / "runs/unbroken", rounds)


def _stopped_at(run: Path) -> int:
    verdict = json.loads((run / "verdict.json").read_text())
    assert verdict["outcome"] == "stopped"
    return verdict["round"]


def test_user_signal_to_mpirun_stops_after_a_round_and_the_run_goes_on_to_the_bit(start, finish, tmp_path):
    run = tmp_path / "runs/cartpole"
    process = start(3, *LONG)
    _wait_for_checkpoint(run)
    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 85
    stopped = _stopped_at(run)
    assert CheckpointStore(run, 1).rounds()[-1] == stopped
    rounds = stopped + 4
    assert finish(3, "--rounds", str(rounds)).returncode == 0
    assert np.array_equal(_params(run, rounds), _unbroken(finish, tmp_path, rounds))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_the_workstation_script_saves_the_state(small, tmp_path, number):
    """Ctrl-C reaches the whole group of the script; mpirun by itself would end its ranks within 0.2 s."""
    script = Path(__file__).parents[2] / "jobs/workstation.sh"
    run = tmp_path / "runs/cartpole"
    process = subprocess.Popen(
        ["bash", str(script), *small, *LONG],
        cwd=tmp_path,
        env={**os.environ, "VIRTUAL_ENV": sys.prefix, "RANKS": "3"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    try:
        _wait_for_checkpoint(run)
        os.killpg(process.pid, number)
        assert process.wait(PATIENCE_S) == 85
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert CheckpointStore(run, 1).rounds()[-1] == _stopped_at(run)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_one_rank_stops_all_of_them_together(start, tmp_path, number):
    run = tmp_path / "runs/cartpole"
    process = start(3, *LONG)
    _wait_for_checkpoint(run)
    os.kill(_ranks_of(process.pid)[-1], number)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 85
    assert CheckpointStore(run, 1).rounds()[-1] == _stopped_at(run)


def test_killed_job_leaves_a_run_that_opens_and_goes_on_to_the_bit(start, finish, tmp_path):
    run = tmp_path / "runs/cartpole"
    for checkpoints in (2, 5):
        process = start(3, *LONG)
        _wait_for_checkpoint(run, checkpoints)
        ranks = _ranks_of(process.pid)
        for victim in (process.pid, *ranks):
            os.kill(victim, signal.SIGKILL)
        process.communicate(timeout=PATIENCE_S)
        assert np.all(np.diff(read_metrics(run / "metrics.h5").rounds) == 1)
        assert not list(Path("/dev/shm").glob("fdrl_mpi_*")), "shared memory outlived its job"
    rounds = CheckpointStore(run, 1).rounds()[-1] + 3
    assert finish(3, "--rounds", str(rounds)).returncode == 0
    assert read_metrics(run / "metrics.h5").rounds.tolist() == list(range(1, rounds + 1))
    assert np.array_equal(_params(run, rounds), _unbroken(finish, tmp_path, rounds))


def test_live_run_keeps_others_out_of_its_directory(start, finish, tmp_path):
    process = start(2, *LONG)
    _wait_for_checkpoint(tmp_path / "runs/cartpole")
    second = finish(2, *LONG)
    assert second.returncode == 2
    assert second.stderr.count("is in use") == 1, second.stderr
    assert process.poll() is None
    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 85


BROKEN_WORLD = """
import gymnasium
import numpy as np

class World(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, kind=0.0):
        self.kind, self.steps = kind, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {{}}

    def step(self, action):
        self.steps += 1
        if self.kind == 2.0 and self.steps > 40:
            {disaster}
        return np.zeros(2, np.float32), 1.0, False, self.steps % 10 == 0, {{}}
"""
EVENLY = (
    "--environment.id",
    "mine:World",
    "--environment.heterogeneity",
    '{kind={distribution="evenly",low=1,high=2}}',
)


@pytest.mark.parametrize("error", ["RuntimeError", "SystemExit", "KeyboardInterrupt"])
def test_exception_in_one_environment_ends_all_ranks_with_its_traceback(finish, tmp_path, error):
    (tmp_path / "mine.py").write_text(BROKEN_WORLD.format(disaster=f'raise {error}("the pump has stopped")'))
    ended = finish(3, *EVENLY, *LONG)
    assert ended.returncode not in (0, 2, 85)
    assert ended.stderr.count(f"{error}: the pump has stopped") == 1, ended.stderr
    assert "rank 2 (agent 2) on " in ended.stderr
    verdict = json.loads((tmp_path / "runs/cartpole/verdict.json").read_text())
    assert verdict["outcome"] == "failed"
    assert "the pump has stopped" in verdict["reason"]


def test_an_exception_in_all_environments_is_told_once(finish, tmp_path):
    (tmp_path / "mine.py").write_text(
        BROKEN_WORLD.format(disaster='raise RuntimeError("the pump has stopped")')
    )
    ended = finish(6, *EVENLY[:2], "--environment.kwargs", "{kind=2.0}", *LONG)
    assert ended.returncode not in (0, 2, 85)
    assert ended.stderr.count("Traceback") == 1, ended.stderr
    told = json.loads((tmp_path / "runs/cartpole/verdict.json").read_text())["reason"]
    who, _, what = told.partition(": ")
    assert what == "RuntimeError: the pump has stopped"
    assert f"{who} failed:\n" in ended.stderr
    others = [line for line in ended.stderr.splitlines() if "failed as did" in line]
    assert all(line.endswith(f" failed as did {told}") for line in others)


def test_agent_whose_rewards_turn_nan_is_left_out_and_named(finish, tmp_path):
    (tmp_path / "mine.py").write_text(
        BROKEN_WORLD.format(disaster='return np.zeros(2, np.float32), float("nan"), False, False, {}')
    )
    ended = finish(3, *EVENLY, "--rounds", "6")
    assert ended.returncode == 0, ended.stderr
    assert "left out agent 2" in ended.stderr
    metrics = read_metrics(tmp_path / "runs/cartpole/metrics.h5")
    assert not np.any(metrics.values["rejected"][:, 0] == 1.0)
    assert np.any(metrics.values["rejected"][:, 1] == 1.0)
    assert np.isfinite(_params(tmp_path / "runs/cartpole", 6)).all()


def test_run_without_any_finite_update_stops_with_the_last_good_model(finish, tmp_path):
    (tmp_path / "mine.py").write_text(
        BROKEN_WORLD.format(disaster='return np.zeros(2, np.float32), float("nan"), False, False, {}')
    )
    only = ("--environment.id", "mine:World", "--environment.kwargs.kind", "2.0", "--rounds", "6")
    ended = finish(3, *only)
    assert ended.returncode == 1
    verdict = json.loads((tmp_path / "runs/cartpole/verdict.json").read_text())
    assert verdict["outcome"] == "failed"
    assert verdict["round"] >= 1
    assert np.isfinite(_params(tmp_path / "runs/cartpole", verdict["round"])).all()


def test_finished_run_started_again_says_so_and_changes_nothing(finish, tmp_path):
    assert finish(2, "--rounds", "2").returncode == 0
    before = _params(tmp_path / "runs/cartpole", 2)
    again = finish(2, "--rounds", "2")
    assert again.returncode == 0
    assert "already has all 2 rounds" in again.stdout
    assert np.array_equal(before, _params(tmp_path / "runs/cartpole", 2))


@pytest.mark.parametrize("error", ["ValueError", "OSError", "RuntimeError"])
def test_exception_in_one_constructor_shows_its_traceback(finish, tmp_path, error):
    source = BROKEN_WORLD.format(disaster="pass").replace(
        "self.kind, self.steps = kind, 0",
        f"self.kind, self.steps = kind, 0\n        if kind == 2.0: raise {error}()",
    )
    (tmp_path / "mine.py").write_text(source)
    ended = finish(3, *EVENLY, "--rounds", "2")
    assert ended.returncode not in (0, 2, 85)
    assert ended.stderr.count(f"raise {error}()") == 1
    assert "rank 2 failed" in ended.stderr
    assert "{'kind': 2.0}" in ended.stderr or error == "RuntimeError"


@pytest.mark.parametrize("mode", ["abort", "survive"])
@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("class Rule:\n    def __init__(self) -> None:\n        {}['pump']\n", "KeyError: 'pump'"),
        ("class\n", "SyntaxError"),
    ],
    ids=["raises", "is no Python"],
)
def test_an_own_class_that_is_broken_is_told_once(finish, tmp_path, mode, source, told):
    (tmp_path / "mine.py").write_text(source)
    flags = {"survive": FLAGS.split(), "abort": []}[mode]
    ended = finish(4, "--aggregation.rule", "mine:Rule", "--faults.mode", mode, mpirun=flags)
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.count("Traceback") == ended.stderr.count(told) == 1, ended.stderr
    assert "rank 0, 1, 2, 3 failed" in ended.stderr
    assert not (tmp_path / "runs").exists()


def test_signal_while_ranks_start_stops_the_run_with_its_state_saved(start, tmp_path):
    process = start(3, *LONG, "--learner.engine", "torch")  # seconds to load
    deadline = time.monotonic() + PATIENCE_S
    while len(_ranks_of(process.pid)) < 3 or not all(map(_handles_user_signal, _ranks_of(process.pid))):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert not (tmp_path / "runs").exists(), "too late to test anything"
    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 85
    assert _stopped_at(tmp_path / "runs/cartpole") == 1


def _handles_user_signal(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), 16)
    return bool(caught >> (signal.SIGUSR1 - 1) & 1)


def test_workstation_script_makes_a_dry_run_on_all_ranks(small, tmp_path):
    script = Path(__file__).parents[2] / "jobs/workstation.sh"
    done = subprocess.run(
        ["bash", str(script), *small, "--dry-run"],
        cwd=tmp_path,
        env={**os.environ, "VIRTUAL_ENV": sys.prefix, "RANKS": "3"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    assert "agent 2: " in done.stdout
    assert not (tmp_path / "runs").exists()
