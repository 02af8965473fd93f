"""A process killed without warning, at random moments, while it writes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import fdrl_mpi
from fdrl_mpi.record.checkpoint import CheckpointStore
from fdrl_mpi.record.metrics_file import read_metrics

SOURCE_TREE = Path(fdrl_mpi.__file__).parents[1]

# So many agents that much of the time goes into the write itself.
WRITE_METRICS = """
import sys, os, numpy as np
from fdrl_mpi.record.metrics import MetricsRecord
from fdrl_mpi.record.metrics_file import read_metrics
path, agents = sys.argv[1], np.arange(1, 501)
if os.path.exists(path):
    record, last = MetricsRecord.resume(path, agents.tolist(), {}, {}), int(read_metrics(path).rounds[-1])
else:
    record, last = MetricsRecord(path, agents, {}, {}), 0
for round in range(last + 1, 100_000):
    record.append(round, {"end_wall_s": float(round), "env_steps": float(round) * agents})
    record.write(durable=False)
    print(round, flush=True)
"""

WRITE_CHECKPOINTS = """
import sys, numpy as np
from fdrl_mpi.record.checkpoint import CheckpointStore, write_state
store = CheckpointStore(sys.argv[1], keep=1)
first = max(store.rounds(), default=1)
for step in range(100_000):
    round = first + step // 2                     # every round is done twice: replaced, then followed
    staging = store.prepare(round)
    digests = {name: write_state(staging / name, {"round": round, "params": np.full(1000, round)})
               for name in map(store.file_for, range(3))}
    store.commit(round, digests, {"round": round})
    print(round, flush=True)
"""


def run_and_kill(code: str, path: Path, after_s: float) -> int:
    """Let `code` print its first line, kill it some time later, and give the last number it printed."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], cwd=SOURCE_TREE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout as output:
        first = output.readline()
        time.sleep(after_s)
        os.kill(process.pid, signal.SIGKILL)
        printed = [first, *output.readlines()]
    assert process.wait() == -signal.SIGKILL
    return int([line for line in printed if line.endswith("\n")][-1])


def test_metrics_of_a_killed_run_hold_every_written_round(tmp_path: Path) -> None:
    path = tmp_path / "metrics.h5"
    moments = random.Random(1)
    for _ in range(8):
        last = run_and_kill(WRITE_METRICS, path, moments.uniform(0, 0.1))
        found = read_metrics(path)
        assert found.rounds[-1] in (last, last + 1)
        np.testing.assert_array_equal(found.rounds, np.arange(1, found.rounds[-1] + 1))
        np.testing.assert_array_equal(found.values["end_wall_s"], found.rounds)
        np.testing.assert_array_equal(found.values["env_steps"], found.rounds[:, None] * found.agents)


def test_a_killed_run_has_its_last_checkpoint_whole(tmp_path: Path) -> None:
    moments = random.Random(2)
    for _ in range(12):
        last = run_and_kill(WRITE_CHECKPOINTS, tmp_path, moments.uniform(0, 0.1))
        store = CheckpointStore(tmp_path, keep=1)
        newest = store.rounds()[-1]
        assert newest in (last, last + 1)
        assert store.manifest(newest).facts == {"round": newest}
        for agent in range(3):
            state = store.load(newest, store.file_for(agent))
            assert state["round"] == newest
            np.testing.assert_array_equal(state["params"], np.full(1000, newest))
