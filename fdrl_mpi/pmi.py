"""How ranks find each other: what their launcher offers, and which MPI understands it. Loads nothing.

A launcher starts processes; only a process management interface (PMI) makes them one world. `mpirun` brings
that of its own MPI. `srun` offers what ``--mpi`` says: PMIx, the older PMI-2, or nothing at all.
"""

from collections.abc import Mapping
from typing import Literal

from fdrl_mpi.problem import Problem

Interface = Literal["PMIx", "PMI-2", "none"]

OWN_LAUNCHER = ("OMPI_COMM_WORLD_SIZE", "HYDRA_LOCAL_SIZE", "MPI_LOCALNRANKS")
"""Variables of the mpirun of Open MPI and of MPICH, which in a SLURM job see those of srun too."""
SRUN: dict[Interface, str] = {
    "none": "srun --mpi=pmix python -m fdrl_mpi.train (MPICH and Intel MPI: --mpi=pmi2)",
    "PMIx": "srun --mpi=pmi2 python -m fdrl_mpi.train, or this MPI's own mpirun (jobs/slurm_mpirun.sbatch)",
    "PMI-2": "srun --mpi=pmix python -m fdrl_mpi.train, or this MPI's own mpirun (jobs/slurm_mpirun.sbatch)",
}
"""How to start instead, where an MPI does not understand what it is offered."""
MAKERS = {"libmpi.so.40": "Open MPI", "libmpi.so.12": "MPICH or Intel MPI"}
"""Whose library an mpi4py was built for, by the name of the file: one cannot stand in for the other."""


def slurm_tasks(environ: Mapping[str, str]) -> int:
    """Count the tasks that srun has started as ranks; 1 under another launcher."""
    if any(name in environ for name in OWN_LAUNCHER):
        return 1
    return int(environ.get("SLURM_STEP_NUM_TASKS", "1"))


def is_slurm_pmix(environ: Mapping[str, str]) -> bool:
    """Whether it is SLURM's own PMIx that looks after this process."""
    return environ.get("PMIX_NAMESPACE", "").startswith("slurm.")


def offered(environ: Mapping[str, str]) -> Interface:
    """Tell which interface the launcher offers this process."""
    if "PMIX_RANK" in environ:
        return "PMIx"
    return "PMI-2" if "PMI_RANK" in environ or "PMI_FD" in environ else "none"


def spoken(vendor: str) -> Interface:
    """Tell which interface an MPI library understands as it is usually built."""
    return "PMIx" if vendor == "Open MPI" else "PMI-2"


def check_singletons(world_size: int, environ: Mapping[str, str]) -> Problem | None:
    """Find out whether srun's tasks are worlds of their own, each of them rank 0 of 1."""
    tasks, interface = slurm_tasks(environ), offered(environ)
    if world_size > 1 or tasks < 2:
        return None
    reason = "srun started every task as an MPI job of its own"
    if interface != "none":
        reason = (
            f"srun offers {interface}, which this MPI does not understand: every task is a job of its own"
        )
    return Problem(f"{tasks} SLURM tasks, but a world of one rank", reason, f"start with: {SRUN[interface]}")
