"""Two hosts whose link is cut: the larger part goes on, the smaller one stops by itself.

Not among the tests that run by themselves: now and then heartbeats of MPI take a host that is starting for
lost. By hand: ``python -m pytest tests/hosts/check_cut.py``.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import SMALL, error_of, is_alive
from namespaces import SWITCH, environment, hosts, missing, mpirun

from fdrl_mpi.constraints_faults import DETECTOR_FLAGS, FLAGS
from fdrl_mpi.record.metrics_file import read_metrics

PATIENCE_S = 90.0
ROUNDS = 60
pytestmark = [
    pytest.mark.launch,
    pytest.mark.skipif(bool(missing()), reason=missing() or "everything is here"),
]


def _ranks(folder: Path) -> list[int]:
    """List the processes that train in a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        try:
            words = (path.parent / "cmdline").read_bytes().split(b"\0")
            if words[0] == sys.executable.encode() and path.resolve() == folder.resolve():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def _wait(condition, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@pytest.mark.parametrize(("slots", "root_stays"), [("4:3", True), ("3:4", False)])
def test_the_majority_goes_on_and_the_minority_stops(tmp_path, slots, root_stays):
    changes = {
        "rounds": str(ROUNDS),
        "faults.silence_s": "2",
        "faults.spares": "0",
        "comm.collective": "gather",
    }
    options = [f"--{key}={value}" for key, value in (SMALL | changes).items()]
    run, logs = tmp_path / "runs/cartpole", tmp_path / "runs/cartpole/logs"
    first, second = slots.split(":")
    with hosts(2) as names, open(tmp_path / "output.txt", "wb") as output:
        command = [
            *FLAGS.split(),
            *DETECTOR_FLAGS.split(),
            "-n",
            "7",
            sys.executable,
            "-m",
            "fdrl_mpi.train",
            *options,
        ]
        line = mpirun(names, 4, command, tmp_path)
        line[line.index("--host") + 1] = f"{names[0]}:{first},{names[1]}:{second}"
        job = subprocess.Popen(line, env=environment(), cwd=tmp_path, stdout=output, stderr=subprocess.STDOUT)
        ranks: list[int] = []
        try:
            _wait(lambda: run.exists() and (run / "metrics.h5").exists(), "the run has not begun")
            ranks = _ranks(tmp_path)
            assert len(ranks) == 7
            subprocess.run(["ip", "-n", SWITCH, "link", "set", "port1", "down"], check=True)
            _wait(lambda: sum(map(is_alive, ranks)) <= 4, "the minority stays")
            _wait(lambda: (run / "verdict.json").exists() and _outcome(run) == "finished", "no verdict")
        finally:
            for pid in [*ranks, job.pid]:
                if is_alive(pid):
                    subprocess.run(["kill", "-9", str(pid)], check=False)
            job.wait(10)
    verdict = json.loads((run / "verdict.json").read_text())
    lost = verdict["failures"][-1]["lost_ranks"]
    assert lost == ([4, 5, 6] if root_stays else [0, 1, 2])
    assert read_metrics(run / "metrics.h5").rounds.tolist() == list(range(1, ROUNDS + 1))
    assert error_of(run, verdict, 6, {}) < 1e-5
    assert logs.exists()


def _outcome(run: Path) -> str:
    return str(json.loads((run / "verdict.json").read_text())["outcome"])
