"""The ranks of a run, and the small agreements between them. Models travel in the collectives."""

import os
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from mpi4py import MPI

from fdrl_mpi.arrays import DoubleArray

SHORTEST_PAUSE_S = 1e-5
LONGEST_PAUSE_S = 2e-3


class World:
    """One communicator: rank 0 is the root, ranks 1..K are the agents.

    Parameters
    ----------
    comm : MPI.Comm
    """

    def __init__(self, comm: MPI.Comm) -> None:
        self.comm = comm
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        node = comm.Split_type(MPI.COMM_TYPE_SHARED)
        self.local_rank: int = node.Get_rank()
        node.Free()
        self.host: str = MPI.Get_processor_name()

    @property
    def is_root(self) -> bool:
        """Whether this rank aggregates."""
        return self.rank == 0

    @property
    def num_agents(self) -> int:
        """Number of agents, K."""
        return self.size - 1

    def meet(self, contribution: DoubleArray, meanwhile: Callable[[], bool]) -> DoubleArray:
        """Wait until every rank is here, use the time, and return the sum of all contributions.

        Ranks that wait sleep between looks, so that those still at work get the cores: where 17 ranks share
        two cores, polling waiters would cost the last ones to train a good part of their time. Because of
        the sleep every hop costs up to two milliseconds; so there are only two of them, by way of the root,
        and not the log K of a collective.

        Parameters
        ----------
        contribution : float64 array, shape (n,)
            This rank's summands.
        meanwhile : callable
            Does a slice of other work, and says whether there was any.

        Returns
        -------
        float64 array, shape (n,)
            The same on every rank, added in the order of ranks.
        """
        total = np.array(contribution, np.float64)
        if self.is_root:
            rows = np.empty((self.num_agents, len(total)))
            requests = [self.comm.Irecv(row, rank) for rank, row in enumerate(rows, 1)]
            _wait_patiently(requests, meanwhile)
            total += rows.sum(axis=0)
            MPI.Request.Waitall([self.comm.Isend(total, rank) for rank in range(1, self.size)])
        else:
            sent = self.comm.Isend(total.copy(), 0)
            _wait_patiently([self.comm.Irecv(total, 0)], meanwhile)
            sent.Wait()
        return total

    def agree(self, fine: bool) -> bool:
        """Say whether all ranks are fine, the same on all of them."""
        flag = np.array([fine], np.int8)
        self.comm.Allreduce(MPI.IN_PLACE, flag, MPI.MIN)
        return bool(flag[0])

    def gather_rows(self, row: DoubleArray) -> DoubleArray | None:
        """Collect one row of float64 from each rank, shape (size, n) on the root and None elsewhere."""
        rows = np.empty((self.size, len(row))) if self.is_root else None
        self.comm.Gather(np.ascontiguousarray(row, np.float64), rows)
        return rows

    def gather_objects(self, value: Any) -> list[Any]:
        """Collect a small Python object of each rank on every rank, pickled: for start and checkpoints."""
        return self.comm.allgather(value)

    def from_root(self, value: Any) -> Any:
        """Give the root's small Python object to every rank, pickled: for start and checkpoints."""
        return self.comm.bcast(value)

    def barrier(self) -> None:
        """Wait until every rank is here."""
        self.comm.Barrier()

    def abort(self, status: int) -> NoReturn:
        """End every rank of the job at once."""
        sys.stdout.flush()
        sys.stderr.flush()
        self.comm.Abort(status)
        raise SystemExit(status)  # mpi4py does not tell that Abort never returns

    def leave(self, status: int) -> NoReturn:
        """End this rank after all have come here; files must be closed.

        The interpreter's own teardown would take 0.2 s a rank on the numpy engine, and seconds with torch.
        """
        MPI.Finalize()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _wait_patiently(requests: list[MPI.Request], meanwhile: Callable[[], bool]) -> None:
    pause_s = 0.0
    while not MPI.Request.Testall(requests):
        if not meanwhile():
            time.sleep(pause_s)
            pause_s = min(pause_s + SHORTEST_PAUSE_S, LONGEST_PAUSE_S)


def open_world() -> World:
    """Return the world of this job."""
    return World(MPI.COMM_WORLD)
