"""One live run per directory."""

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fdrl_mpi
from fdrl_mpi.record.run_lock import RunInUse, RunLock

HOLD = """
import sys, time
from pathlib import Path
from fdrl_mpi.record.run_lock import RunLock
lock = RunLock(Path(sys.argv[1]))
lock.acquire()
print("locked", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run.lock")],
        cwd=Path(fdrl_mpi.__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_told_who_has_the_lock(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(RunInUse, match=f"process {holder.pid} on {socket.gethostname()}") as refusal:
        RunLock(tmp_path / "run.lock").acquire()
    assert (refusal.value.host, refusal.value.pid) == (socket.gethostname(), holder.pid)


def test_a_killed_process_frees_its_lock(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    lock = RunLock(tmp_path / "run.lock")
    lock.acquire()
    assert json.loads(lock.path.read_text())["pid"] == os.getpid()
    lock.release()


def test_a_lock_can_be_taken_again_after_its_release(tmp_path: Path) -> None:
    first, second = RunLock(tmp_path / "run.lock"), RunLock(tmp_path / "run.lock")
    first.acquire()
    first.acquire()
    with pytest.raises(RunInUse):
        second.acquire()
    first.release()
    first.release()
    second.acquire()
    second.release()


@pytest.fixture
def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.mark.usefixtures("no_flock")
def test_without_flock_a_live_process_keeps_others_out(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(RunInUse, match=str(holder.pid)):
        RunLock(tmp_path / "run.lock").acquire()
    holder.kill()
    holder.wait()
    lock = RunLock(tmp_path / "run.lock")
    lock.acquire()
    lock.release()


@pytest.mark.usefixtures("no_flock")
def test_without_flock_a_process_on_another_host_is_taken_for_alive(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "start": "yesterday"}))
    with pytest.raises(RunInUse, match=r"process 1 on elsewhere .* since yesterday.*delete .*run\.lock"):
        RunLock(path).acquire()


@pytest.mark.usefixtures("no_flock")
@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_without_flock_a_lock_that_names_nobody_is_free(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.lock"
    path.write_text(text)
    lock = RunLock(path)
    lock.acquire()
    lock.release()
