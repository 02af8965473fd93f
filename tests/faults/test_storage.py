"""Whatever the disk does, training goes on or ends with a clear reason, and nothing written is lost."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import h5py
import pytest
from disks import disk_that_stalls, fill, read_only, small_disk, stalled
from harness import SMALL, children, is_alive, launch, wait

from fdrl_mpi.record.atomic_file import replacing
from fdrl_mpi.record.checkpoint import CheckpointStore
from fdrl_mpi.record.metrics_file import read_metrics
from fdrl_mpi.record.run_directory import RunDirectory

pytestmark = pytest.mark.launch
PATIENCE_S = 40.0
FEW_RANKS = 4
MODES = {
    "abort": {"faults.mode": "abort", "faults.spares": "0"},
    "survive": {"faults.mode": "survive", "faults.spares": "1"},
}
ENDLESS = {"rounds": "100000", "checkpoint.every": "5", "evaluation.every": "1000"}


class Job:
    """A run in ``FOLDER/runs/cartpole`` that something is done to."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.folder, self.run = folder, folder / "runs/cartpole"
        self.store = CheckpointStore(self.run, 3)
        self.process = launch(folder, "", FEW_RANKS, SMALL | settings)
        while self.process.poll() is None and not children(self.process.pid):
            time.sleep(0.02)

    @property
    def output(self) -> str:
        return (self.folder / "output.txt").read_text(errors="replace")

    @property
    def verdict(self) -> dict:
        return json.loads((self.run / "verdict.json").read_text())

    def wait_until(self, what: str, holds: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert self.process.poll() is None, f"{what}: the run has ended\n{self.output}"
            assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_S} s\n{self.output}"
            time.sleep(0.02)

    def wait_for_checkpoint(self, after: int = 0) -> int:
        self.wait_until(f"a checkpoint after {after}", lambda: max(self.store.rounds(), default=0) > after)
        return self.store.rounds()[-1]

    def end(self) -> int:
        deadline, ranks = time.monotonic() + PATIENCE_S, children(self.process.pid)
        while self.process.poll() is None or any(map(is_alive, ranks)):
            assert time.monotonic() < deadline, self.output
            time.sleep(0.02)
        assert "Traceback" not in self.output, self.output
        return self.process.returncode

    def stop(self) -> int:
        """Ask the run to stop; return its exit status."""
        self.process.send_signal(signal.SIGUSR1)
        return self.end()

    def assert_all_is_whole(self) -> None:
        """Every checkpoint can be read, and the record has no gap."""
        assert self.store.rounds()
        for round in self.store.rounds():
            for file in self.store.manifest(round).digests:
                self.store.load(round, file)
        rounds = read_metrics(self.run / "metrics.h5").rounds.tolist()
        assert rounds == list(range(1, len(rounds) + 1))

    def assert_stopped_whole(self, losses: Sequence[list[int]] = ()) -> None:
        """Stop it: nobody else was lost, and the last round is saved."""
        assert self.stop() == 85, self.output
        assert self.verdict["outcome"] == "stopped"
        assert [failure["lost_ranks"] for failure in self.verdict["failures"]] == list(losses), self.verdict
        assert self.verdict["round"] == self.store.rounds()[-1]
        self.assert_all_is_whole()


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """Start jobs; end them whatever happens."""
    jobs: list[Job] = []

    def start(settings: dict[str, str]) -> Job:
        jobs.append(Job(tmp_path, settings))
        return jobs[-1]

    yield start
    for one in jobs:
        if is_alive(one.process.pid):
            wait(one.process, 0.2)


def test_a_run_outlives_a_full_disk_and_saves_again_when_there_is_room(job, tmp_path):
    with small_disk(tmp_path / "runs") as disk:
        run = job(ENDLESS | MODES["survive"])
        before = run.wait_for_checkpoint()

        def is_noticed() -> bool:
            fill(disk)
            return "checkpoint" in run.output and "No space left" in run.output

        run.wait_until("a warning", is_noticed)
        full = run.store.rounds()[-1]
        assert full >= before
        run.assert_all_is_whole()
        fill(disk).unlink()
        run.wait_for_checkpoint(full)
        run.assert_stopped_whole()


@pytest.mark.parametrize("mode", MODES)
def test_a_disk_that_stays_full_fails_the_run_which_goes_on_later_from_what_was_saved(job, tmp_path, mode):
    settings = ENDLESS | {"checkpoint.every": "20", "rounds": "60"} | MODES[mode]
    with small_disk(tmp_path / "runs") as disk:
        run = job(settings)
        saved = run.wait_for_checkpoint()
        deadline = time.monotonic() + PATIENCE_S
        while run.process.poll() is None and time.monotonic() < deadline:
            fill(disk)
            time.sleep(0.01)
        assert run.end() == 1, run.output
        assert "state was not saved" in run.output
        assert "no verdict" in run.output
        assert "No space left" in run.output
        run.assert_all_is_whole()
        assert run.store.rounds()[-1] == saved < 60
        fill(disk).unlink()
        if mode == "abort":
            return
        again = job(settings)
        assert again.end() == 0, again.output
        assert f"goes on after round {saved}" in again.output
        assert again.verdict["outcome"] == "finished"
        again.assert_all_is_whole()


def test_a_root_that_dies_while_the_disk_is_full_is_replaced(job, tmp_path):
    with small_disk(tmp_path / "runs") as disk:
        run = job(ENDLESS | MODES["survive"])
        run.wait_for_checkpoint()

        def is_noticed(what: str) -> bool:
            fill(disk)
            return what in run.output

        run.wait_until("a warning", lambda: is_noticed("checkpoint"))
        os.kill(children(run.process.pid)[0], signal.SIGKILL)
        run.wait_until("another root", lambda: is_noticed("goes on after"))
        full = run.store.rounds()[-1]
        fill(disk).unlink()
        run.wait_for_checkpoint(full)
        run.assert_stopped_whole(losses=[[0]])


def test_a_run_does_not_begin_where_it_cannot_write(job, tmp_path):
    folder = tmp_path / "runs"
    folder.mkdir()
    with read_only(folder):
        run = job(MODES["survive"])
        assert run.end() == 2, run.output
        assert "Read-only file system" in run.output
    assert list(folder.iterdir()) == []


def test_a_run_that_cannot_begin_on_a_full_disk_leaves_room_for_another_try(job, tmp_path):
    with small_disk(tmp_path / "runs") as disk:
        (disk / "cartpole").mkdir()
        fill(disk)
        run = job({"rounds": "2"} | MODES["abort"])
        assert run.end() == 2, run.output
        assert "No space left" in run.output
        assert RunDirectory(run.run).is_empty()


def test_a_run_outlives_a_disk_that_turns_read_only_for_a_while(job, tmp_path):
    run = job(ENDLESS | MODES["survive"])
    run.wait_for_checkpoint()
    with read_only(tmp_path / "runs"):
        run.wait_until("a warning", lambda: "checkpoint" in run.output and "Read-only" in run.output)
        last = run.store.rounds()[-1]
        run.assert_all_is_whole()
    run.wait_for_checkpoint(last)
    run.assert_stopped_whole()


def test_nobody_is_given_up_for_a_slow_disk(job, tmp_path):
    settings = ENDLESS | MODES["survive"] | {"faults.silence_s": "1"}
    with disk_that_stalls(tmp_path / "runs", tmp_path / "image") as disk:
        run = job(settings)
        last = run.wait_for_checkpoint()
        with stalled(disk):
            time.sleep(3.0)
        run.wait_for_checkpoint(last)
        run.assert_stopped_whole()


def test_nobody_is_given_up_for_a_long_evaluation(job):
    settings = {"faults.silence_s": "0.7", "rounds": "4", "evaluation.every": "4", "checkpoint.every": "4"}
    run = job(MODES["survive"] | settings | {"evaluation.episodes": "42000"})
    assert run.end() == 0, run.output
    assert run.verdict["failures"] == []
    seconds = read_metrics(run.run / "metrics.h5").values["checkpoint_s"][-1]
    assert seconds > 0.7, "too quick to test anything"


def test_a_reader_that_holds_the_record_open_disturbs_nobody(job, tmp_path, monkeypatch):
    monkeypatch.delenv("HDF5_USE_FILE_LOCKING", raising=False)
    run = job(ENDLESS | MODES["survive"])
    last = run.wait_for_checkpoint()
    with h5py.File(run.run / "metrics.h5", "r") as held:
        rounds = held["round"][()].tolist()
        run.wait_for_checkpoint(last)
        run.assert_stopped_whole()
        assert held["round"][()].tolist() == rounds
        assert "WARNING" not in run.output


def test_a_job_that_is_suspended_as_a_whole_goes_on_as_if_nothing_had_been(job):
    settings = {"faults.silence_s": "2", "participation.deadline_s": "2", "learner.budget": "512"}
    run = job(ENDLESS | MODES["survive"] | settings)
    last = run.wait_for_checkpoint()
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in children(run.process.pid):
            os.kill(pid, number)
        time.sleep(3.0 if number == signal.SIGSTOP else 0.0)
    run.wait_for_checkpoint(last)
    run.wait_for_checkpoint(run.store.rounds()[-1])
    run.assert_stopped_whole()


def test_a_root_whose_directory_was_taken_over_ends_and_writes_nothing(job):
    run = job(ENDLESS | MODES["survive"])
    run.wait_for_checkpoint()
    path, root = run.run / "run.owner", children(run.process.pid)[0]
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(json.loads(path.read_text()) | {"view": 99}))
    run.wait_until("the message", lambda: "belongs to view 99" in run.output)
    before = {file: file.stat().st_mtime_ns for file in run.run.rglob("*.h5")}
    run.wait_until("the root's end", lambda: not is_alive(root))
    assert not (run.run / "verdict.json").exists()
    assert {file: file.stat().st_mtime_ns for file in run.run.rglob("*.h5")} == before
    run.assert_all_is_whole()
