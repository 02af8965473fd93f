"""How a wait measures time, and what it sees of other processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mpi4py import MPI

from fdrl_mpi.comm.post import STOPPED_S, Lost, Post, _started
from fdrl_mpi.comm.waiting_clock import LONGEST_TURN_S, WaitingClock
from fdrl_mpi.comm.watched import MOST_SILENCES, Vigil, WatchedComm

HOST = MPI.Get_processor_name()


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_waiting_clock_leaves_out_what_is_too_long_for_one_turn():
    hands = Hands()
    clock = WaitingClock(hands)
    first = clock.now_s()
    for step_s in (0.3, 0.5, 1000.0, 0.2):
        hands.now_s += step_s
        clock.now_s()
    assert clock.now_s() - first == pytest.approx(1.0)


def test_a_waiting_clock_counts_long_work():
    hands = Hands()
    clock = WaitingClock(hands)
    first = clock.now_s()
    hands.now_s += 5 * LONGEST_TURN_S
    clock.note_work()
    assert clock.now_s() - first == pytest.approx(5 * LONGEST_TURN_S)


@pytest.fixture
def post() -> Post:
    """Make the post of a job of two: this process, and a rank 1 that a test puts there."""
    post = Post(MPI.COMM_SELF, 1.0)
    post.hosts.append(HOST)
    return post


def put(post: Post, code: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    post._processes[1:] = [(HOST, process.pid, _started(process.pid))]
    return process


BUSY = "print('here', flush=True)\nwhile True: pass"
IDLE = "import time\nprint('here', flush=True)\ntime.sleep(60)"
SPIN = "import threading\ndef spin():\n    while True: pass\n"
THREAD = SPIN + "threading.Thread(target=spin, daemon=True).start()\n"
ON_DISK = "import ctypes, time\nprint('here', flush=True)\nif not ctypes.CDLL(None).vfork(): time.sleep(60)"


def _wait_for_ever(vigil: Vigil) -> None:
    while True:
        vigil.go_on([1])


def silent_after_s(post: Post, silence_s: float) -> float:
    """Wait for rank 1, which never answers; return how long it took to give it up."""
    comm = WatchedComm(post, [0], 0, silence_s)
    vigil, began_s = Vigil(comm, silence_s), time.monotonic()
    with pytest.raises(Lost, match="silent"):
        _wait_for_ever(vigil)
    return time.monotonic() - began_s


@pytest.mark.parametrize("code", [IDLE, THREAD + IDLE], ids=["idle", "idle beside a busy thread"])
def test_a_process_that_does_nothing_is_given_up_after_the_silence(post, code):
    process = put(post, code)
    assert 0.5 <= silent_after_s(post, 0.5) < 2.0
    process.kill()
    process.communicate()


def test_a_process_that_works_is_given_up_much_later(post):
    process = put(post, BUSY)
    assert MOST_SILENCES * 0.3 <= silent_after_s(post, 0.3) < MOST_SILENCES * 0.3 + 2.0
    process.kill()
    process.communicate()


def test_a_process_that_waits_for_a_disk_works(post):
    """Whoever has called vfork waits as one does for a disk, until its child has ended."""
    process = put(post, ON_DISK)
    time.sleep(0.2)
    first = post.effort(1)
    assert post.effort(1) > first
    child = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
    os.kill(child, signal.SIGKILL)
    process.kill()
    process.communicate()


def test_a_stopped_process_is_believed_to_be_at_the_second_look(post):
    process = put(post, BUSY)
    assert not post.is_halted(1)
    process.send_signal(signal.SIGSTOP)
    while not post.is_stopped(1):
        time.sleep(0.01)
    assert not post.is_halted(1)
    time.sleep(1.5 * STOPPED_S)
    assert post.is_halted(1)
    process.send_signal(signal.SIGCONT)
    time.sleep(0.05)
    assert not post.is_halted(1)
    process.kill()
    process.wait()
    assert post.is_halted(1)
    process.communicate()
