"""What a run asks of the batch system it is in: hosts, a launcher, and another turn after it was stopped."""

import re
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

Launcher = Literal["mpirun", "srun", "flux"]
LAUNCHERS: tuple[str, ...] = get_args(Launcher)

TOGETHER = ("--kill-on-bad-exit=0", "--wait=60")
"""How srun ends ranks together: all of them when one ended 60 s ago. At once would be too early: the first
that leaves with status 85 would cut off the others. Never would leave them in MPI_Init, waiting for one that
did not get there. Who is lost later ends the others at once: SLURM's PMIx sees to that."""


def tasks_per_host(environ: Mapping[str, str]) -> list[int]:
    """List how many ranks a job is to have on each of its hosts, from SLURM or PBS; empty outside of them."""
    if counts := environ.get("SLURM_TASKS_PER_NODE"):  # 16(x3),7
        parts = re.findall(r"(\d+)(?:\(x(\d+)\))?", counts)
        return [int(tasks) for tasks, hosts in parts for _ in range(int(hosts or 1))]
    if hosts := environ.get("PBS_NODEFILE"):
        return list(Counter(Path(hosts).read_text().split()).values())
    return []


def launcher_words(launcher: str, ranks: int, environ: Mapping[str, str]) -> list[str]:
    """Write the beginning of the command line that starts ranks.

    Parameters
    ----------
    launcher : str
        Of `LAUNCHERS`.
    ranks : int
        0: as many as the job has tasks (srun only).
    environ : mapping
        SLURM_MPI_TYPE is what srun offers instead of PMIx.
    """
    number = ["-n", str(ranks)] if ranks else []
    if launcher == "srun":
        interface = [] if environ.get("SLURM_MPI_TYPE") else ["--mpi=pmix"]
        return ["srun", *interface, *TOGETHER, *number]
    if launcher == "flux":
        return ["flux", "run", "-o", "pmi=pmix", *number]
    return ["mpirun", *number]


def launcher_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what srun does not pass on from the job to its steps by itself."""
    cores = environ.get("SLURM_CPUS_PER_TASK")
    return {"SRUN_CPUS_PER_TASK": cores} if cores else {}


def requeue(environ: Mapping[str, str]) -> str:
    """Put this job back into SLURM's queue; return why that was not done, or an empty text.

    A job that somebody has cancelled is left to end.
    """
    if "SLURM_JOB_ID" not in environ:
        return "this is no SLURM job"
    job = job_name(environ)
    state = _ask(["squeue", "--noheader", "--format=%T", "--jobs", job])
    if state != "RUNNING":
        return f"job {job} is {state.lower() or 'unknown to SLURM'}"
    return _ask(["scontrol", "requeue", job])


def job_name(environ: Mapping[str, str]) -> str:
    """Name this job to SLURM; the last task of an array has the number of the whole array for its own."""
    if "SLURM_ARRAY_JOB_ID" in environ:
        return f"{environ['SLURM_ARRAY_JOB_ID']}_{environ['SLURM_ARRAY_TASK_ID']}"
    return environ["SLURM_JOB_ID"]


def _ask(command: Sequence[str]) -> str:
    """Run a command of SLURM and return what it says, on whichever stream."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (done.stdout + done.stderr).strip()
