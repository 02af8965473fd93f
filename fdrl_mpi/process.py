"""What a rank must settle about its own process before numpy and MPI are loaded, and how it may end."""

import os
import re
import signal
import sys
from math import inf

from fdrl_mpi.pmi import is_slurm_pmix

FAILED, REFUSED, RESUMABLE = 1, 2, 85
"""Exit statuses: an error; nothing was begun; asked to stop by a signal, and can be resumed."""

LEFT = 130
"""Exit status of a command that watched a run and was left before the run had ended, as after Ctrl-C."""

EXIT_STATUS = {"finished": 0, "stopped": RESUMABLE, "failed": FAILED, "minority": FAILED}
"""Exit status by the outcome in the verdict. Nothing tells whether too few ranks are left because of the
machine or of the program, so a queue must not start a minority again by itself."""

RUN_FILE_VARIABLE = "FDRL_RUN_FILE"
"""Where the launcher wants to read, on a line each, the path of the run directory and the root's status."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID")


class LikewiseError(Exception):
    """This rank fails as another one has, which tells where in the program."""


def prepare_process() -> None:
    """Set the environment of one rank; what the user has set stays.

    One BLAS thread a rank, or as many as SLURM was asked for with ``--cpus-per-task``: ranks are the
    parallelism, and 16 agents with a thread a core each on 2 cores lose a factor of 4. The `ofi` transport
    costs a second at every start and moves nothing here; a process alone shares memory with nobody, and Open
    MPI 5.0 would leave a file of it behind. Where ranks exceed cores, waiting ranks yield theirs. An Open MPI
    that was installed by pip finds its texts only by OPAL_PREFIX, which its mpirun sets and srun does not.
    Call it before numpy and mpi4py are imported.
    """
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, os.environ.get("SLURM_CPUS_PER_TASK", "1"))
    os.environ.setdefault("OMPI_MCA_btl", "^ofi" if is_launched() else "^ofi,sm")
    if is_slurm_pmix(os.environ) and os.path.exists(f"{sys.prefix}/lib/libmpi.so.40"):
        os.environ.setdefault("OPAL_PREFIX", sys.prefix)
    if local_size() > usable_cores():
        os.environ.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")


def is_launched() -> bool:
    """Whether an MPI launcher started this process."""
    return any(name in os.environ for name in RANK_VARIABLES)


def launched_rank() -> int:
    """Read this process's rank from its launcher's variables; 0 without a launcher.

    Under `mpirun` inside a SLURM job every process sees the daemon's SLURM_PROCID, so that one comes last.
    """
    for name in RANK_VARIABLES:
        if name in os.environ:
            return int(os.environ[name])
    return 0


def local_size() -> int:
    """Read the number of ranks on this host from the launcher's variables; 1 without a launcher."""
    for name in ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "SLURM_TASKS_PER_NODE"):
        if count := re.match(r"\d+", os.environ.get(name, "")):  # SLURM writes 16(x3),7 or 9,8
            return int(count.group())
    return 1


def usable_cores() -> int:
    """Count the cores the ranks of this host share.

    A rank that is bound to one core sees only that one; the daemon that started it sees all of them.
    """
    cores = len(os.sched_getaffinity(0))
    try:
        return max(cores, len(os.sched_getaffinity(os.getppid())))
    except OSError:
        return cores


def tell_launcher(**facts: object) -> None:
    """Tell the launcher, if there is one: `run`, the path of the run directory, or `status`, the root's.

    Raises
    ------
    OSError
    """
    if path := os.environ.get(RUN_FILE_VARIABLE):
        with open(path, "a", encoding="utf-8") as file:
            file.writelines(f"{name} {value}\n" for name, value in facts.items())


def end_after(limit_s: float) -> None:
    """Let the system end this process after a time, whatever holds it up; 0: not any more."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, limit_s)


def positive_seconds(text: str) -> float:
    """Read a time that a command line gives.

    Raises
    ------
    ValueError
        If it is none, not positive or infinite.
    """
    seconds = float(text)
    if not 0.0 < seconds < inf:
        raise ValueError(text)
    return seconds
