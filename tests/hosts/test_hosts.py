"""Collectives and whole runs between hosts, which share no memory. Needs root and iproute2."""

import subprocess
import sys
from pathlib import Path

import pytest
from namespaces import environment, hosts, missing, mpirun

from fdrl_mpi.record.metrics_file import read_metrics
from fdrl_mpi.reporting.series import moved_bytes

TIME_LIMIT_S = 300
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "everything is here")


def _start(
    names: list[str], slots: int, command: list[str], folder: Path
) -> subprocess.CompletedProcess[str]:
    line = mpirun(names, slots, ["-n", str(slots * len(names)), sys.executable, *command], folder)
    return subprocess.run(
        line,
        env=environment(),
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=TIME_LIMIT_S,
    )


def test_collectives_agree_with_the_oracle_on_three_hosts(tmp_path):
    files = [str(ROOT / f"tests/mpi/test_{name}.py") for name in ("collectives", "gossip", "secure_ring")]
    pytest_line = ["-m", "pytest", "-q", "-x", "--color=no", "--with-mpi", "-p", "no:cacheprovider"]
    with hosts(3) as names:
        done = _start(names, 2, [*pytest_line, "--rootdir", str(ROOT), *files], tmp_path)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


@pytest.mark.parametrize("collective", ["auto", "tree"])
def test_run_on_three_hosts_records_who_sat_where_and_what_was_sent(tmp_path, collective):
    small = [
        "--rounds",
        "2",
        "--learner.budget",
        "128",
        "--environment.num_envs",
        "2",
        "--learner.num_steps",
        "16",
    ]
    with hosts(3) as names:
        command = ["-m", "fdrl_mpi.train", *small, "--comm.collective", collective]
        done = _start(names, 2, command, tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    metrics = read_metrics(tmp_path / "runs/cartpole/metrics.h5")
    assert [str(host) for host in metrics.agent_facts["host"].values] == [
        names[rank // 2] for rank in range(1, 6)
    ]
    assert metrics.attributes["collective"] == ("node and tree" if collective == "auto" else "tree")
    size = 4 * metrics.attributes["num_parameters"]
    assert (metrics.values["root_received_bytes"] % size == 0).all()
    assert moved_bytes(metrics, "crossing_bytes").tolist() == [2 * 2 * size] * 2, "a model each way, twice"
