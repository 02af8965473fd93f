"""Hosts that are cut off, and ranks of another host that die or stop: the majority goes on, alone.

Each round lasts as long as one agent of the majority dawdles; the run is told to stop when enough has
happened.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import SMALL, TOLERANCE, error_of, is_alive
from namespaces import environment, hosts, missing, mpirun, plug

from fdrl_mpi.federation.injection import VARIABLE
from fdrl_mpi.launch_flags import FLAGS
from fdrl_mpi.record.metrics_file import read_metrics

NUM_RANKS, SLOW = 7, 4
PATIENCE_S, SILENCE_S = 90.0, 6.0
ROUND_S, MOST_ROUNDS = 0.3, 300
SETTINGS = SMALL | {
    "rounds": str(MOST_ROUNDS),
    "faults.silence_s": str(SILENCE_S),
    "faults.spares": "0",
    "checkpoint.every": "1000",
}
pytestmark = [
    pytest.mark.launch,
    pytest.mark.skipif(bool(missing()), reason=missing() or "everything is here"),
]


class Job:
    """A run over several hosts, with as many ranks on each as `slots` says.

    Attributes
    ----------
    pids : list of int
        Of the ranks, in their order.
    """

    def __init__(self, folder: Path, names: Sequence[str], slots: Sequence[int], collective: str) -> None:
        self.run, self._output = folder / "runs/cartpole", folder / "output.txt"
        self.pids: list[int] = []
        options = [f"--{key}={value}" for key, value in (SETTINGS | {"comm.collective": collective}).items()]
        program = [sys.executable, "-m", "fdrl_mpi.train", *options]
        line = mpirun(names, slots, [*FLAGS.split(), "-n", str(NUM_RANKS), *program], folder)
        dawdling = f"rank={SLOW},round={{}},phase=before_train,action=sleep,delay_s={ROUND_S}"
        faults = ";".join(dawdling.format(round) for round in range(1, MOST_ROUNDS))
        with open(self._output, "wb") as output:
            self._process = subprocess.Popen(
                line,
                env=environment() | {VARIABLE: faults, "TMPDIR": str(folder)},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def begin(self) -> None:
        """Wait for the second round."""
        _wait(
            lambda: self.run.exists() or self._process.poll() is not None, "the ranks do not start", self.told
        )
        self.pids = _ranks(self.run.parents[1])
        _wait(self._is_under_way, "the run has not begun", self.told)
        assert len(self.pids) == NUM_RANKS

    def living(self) -> list[int]:
        """List the ranks that live."""
        return [rank for rank, pid in enumerate(self.pids) if is_alive(pid)]

    def wait_for_end_of(self, ranks: Sequence[int]) -> None:
        _wait(lambda: not set(ranks) & set(self.living()), f"ranks {ranks} stay", self.told)

    def wait_for_change(self, number: int = 1) -> None:
        """Wait until the run has gone on in a new view so many times, and done a round in it."""

        def is_changed() -> bool:
            lines = self._log().splitlines()
            changes = [place for place, line in enumerate(lines) if "goes on after" in line]
            return len(changes) >= number

        _wait(is_changed, "the majority does not go on", self.told)
        time.sleep(3 * ROUND_S)

    def stop(self, root: int) -> dict:
        """Tell the run to stop; return its verdict."""
        os.kill(self.pids[root], signal.SIGUSR1)
        path = self.run / "verdict.json"
        _wait(lambda: path.exists() and _outcome(path) == "stopped", "no verdict", self.told)
        return json.loads(path.read_text())

    def end(self) -> None:
        """End what is left."""
        for pid in [*self.pids, self._process.pid]:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(10)

    def told(self) -> str:
        """What the ranks have logged, for messages of failed tests."""
        logs = sorted((self.run / "logs").glob("*.log")) if self.run.exists() else []
        texts = [f"{path.name}\n{path.read_text()[-1500:]}" for path in logs]
        return "\n".join([*texts, self._output.read_text(errors="replace")[-3000:]])

    def _is_under_way(self) -> bool:
        return self._output.exists() and f"Fault(rank={SLOW}, round=2," in self._output.read_text()

    def _log(self) -> str:
        return "".join(path.read_text() for path in (self.run / "logs").glob("*.log"))


@contextmanager
def _run_over(slots: Sequence[int], collective: str) -> Iterator[Job]:
    """Make a run in memory: to wait for a busy disk would count as silence."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as folder, hosts(len(slots)) as names:
        job = Job(Path(folder), names, slots, collective)
        try:
            job.begin()
            yield job
        finally:
            job.end()


def _ranks(folder: Path) -> list[int]:
    """List the processes that train in a folder, in the order of their ranks."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cwd"):
        try:
            words = (path.parent / "cmdline").read_bytes().split(b"\0")
            variables = (path.parent / "environ").read_bytes().split(b"\0")
            if words[0] != sys.executable.encode() or path.resolve() != folder.resolve():
                continue
        except OSError:
            continue
        rank = next(word for word in variables if word.startswith(b"OMPI_COMM_WORLD_RANK="))
        found[int(rank.rpartition(b"=")[2])] = int(path.parent.name)
    return [found[rank] for rank in sorted(found)]


def _wait(condition: Callable[[], bool], what: str, told: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what}\n{told()}"
        time.sleep(0.05)


def _outcome(path: Path) -> str:
    return str(json.loads(path.read_text())["outcome"])


def _check(job: Job, verdict: dict, lost: list[list[int]]) -> None:
    """Compare what is left with what those make that took part."""
    all_lost = [failure["lost_ranks"] for failure in verdict["failures"] if failure["lost_ranks"]]
    assert all_lost == lost, job.told()
    rounds = read_metrics(job.run / "metrics.h5").rounds.tolist()
    assert rounds == list(range(1, verdict["round"] + 1))
    assert error_of(job.run, verdict, NUM_RANKS - 1, {}) <= TOLERANCE, job.told()
    assert all(failure["recovery_s"] <= 2 * SILENCE_S + 5.0 for failure in verdict["failures"])


def test_a_minority_that_is_cut_off_ends_and_a_link_that_comes_back_changes_nothing():
    with _run_over((3, 4), "gather") as job:
        plug(0, False)
        job.wait_for_change()
        job.wait_for_end_of([0, 1, 2])
        plug(0, True)
        time.sleep(3 * ROUND_S)
        assert job.living() == [3, 4, 5, 6]
        _check(job, job.stop(root=3), [[0, 1, 2]])


def test_the_root_goes_on_with_the_majority_on_its_host():
    with _run_over((5, 2), "tree") as job:
        plug(1, False)
        job.wait_for_change()
        job.wait_for_end_of([5, 6])
        _check(job, job.stop(root=0), [[5, 6]])


def test_two_hosts_of_three_go_on_without_the_third():
    with _run_over((2, 2, 3), "allreduce") as job:
        plug(0, False)
        job.wait_for_change()
        _check(job, job.stop(root=2), [[0, 1]])


def test_a_link_that_comes_back_as_soon_as_the_majority_has_gone_on():
    """The minority is about to end; its calls for a new view arrive after all, and change nothing."""
    with _run_over((3, 4), "node") as job:
        plug(0, False)
        job.wait_for_change()
        plug(0, True)
        time.sleep(SILENCE_S / 2)
        _check(job, job.stop(root=3), [[0, 1, 2]])


def test_a_short_cut_is_not_noticed_and_ranks_that_die_or_stop_beyond_the_link_are_lost_alone():
    with _run_over((5, 2), "gather") as job:
        plug(1, False)
        time.sleep(SILENCE_S / 6)
        plug(1, True)
        time.sleep(SILENCE_S)
        os.kill(job.pids[5], signal.SIGKILL)
        job.wait_for_change()
        os.kill(job.pids[6], signal.SIGSTOP)
        job.wait_for_change(2)
        verdict = job.stop(root=0)
        _check(job, verdict, [[5], [6]])
        assert verdict["failures"][0]["recovery_s"] < SILENCE_S
