"""What ends a process whatever MPI does."""

import signal
import subprocess
import sys

PROGRAM = """
import time
from types import SimpleNamespace
from fdrl_mpi.comm import world

world.ABORT_S = 0.2
stuck = world.World.__new__(world.World)
stuck.comm = SimpleNamespace(Abort=lambda status: time.sleep(60))
print("told")
stuck.abort(1)
"""


def test_a_process_whose_mpi_does_not_abort_ends_itself():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=50)
    assert done.returncode == -signal.SIGALRM
    assert done.stdout == "told\n", "what was said is not lost"
