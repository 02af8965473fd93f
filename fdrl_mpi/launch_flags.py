"""What mpirun is told so that ranks outlive others. Loads nothing: the doctor asks it too."""

from collections.abc import Iterator, Mapping

from fdrl_mpi.pmi import is_slurm_pmix
from fdrl_mpi.problem import Problem

FLAGS = "--with-ft ulfm --mca coll ^han,adapt,hcoll,portals4 --prtemca oob_tcp_keepalive_time 0"
"""What mpirun needs for a run that survives; without the last, it ends all ranks eight minutes after a link
between hosts is cut. No variable tells whether that was given."""
CRASHING = {"han", "adapt"}
"""Components of Open MPI for collectives that do not bear a lost rank."""


def is_tolerant(environ: Mapping[str, str]) -> bool:
    """Whether mpirun was told to let ranks outlive others."""
    return environ.get("OMPI_MCA_mpi_ft_enable") == "1"


def check_launch(environ: Mapping[str, str]) -> Iterator[Problem]:
    """Find what is wrong with the variables of a launcher for a run that is to survive."""
    if is_slurm_pmix(environ):
        yield Problem(
            'faults.mode = "survive" under srun --mpi=pmix',
            "SLURM's PMIx ends all ranks as soon as one dies, with --kill-on-bad-exit=0 too",
            "start mpirun in the job instead: sbatch jobs/slurm_mpirun.sbatch --faults.mode survive ..., or "
            'choose faults.mode = "abort": the job is requeued by SLURM when a node fails',
        )
        return
    if not is_tolerant(environ):
        yield Problem(
            'faults.mode = "survive", but this job was started without fault tolerance',
            "mpirun would end all ranks as soon as one dies",
            f"start with: mpirun {FLAGS} -n 17 python -m fdrl_mpi.train ... (Open MPI 5 or later, built with "
            "ULFM: see python -m fdrl_mpi.doctor), or use jobs/workstation.sh",
        )
        return
    components = environ.get("OMPI_MCA_coll", "")
    if not (components.startswith("^") and set(components[1:].split(",")) >= CRASHING):
        yield Problem(
            'faults.mode = "survive" with the collective components han and adapt',
            "they crash the survivors of a failure on several hosts",
            f"start with: mpirun {FLAGS} ...",
        )
