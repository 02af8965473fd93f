"""The ranks of a run, and the small agreements between them. Models travel in the collectives."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from math import inf, nan
from typing import Any, NoReturn

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from fdrl_mpi.arrays import DoubleArray, FloatVector
from fdrl_mpi.comm.requests import Communicator, wait_all, wait_patiently
from fdrl_mpi.process import FAILED, LikewiseError, end_after
from fdrl_mpi.topology.placement import Placement

TELL_S = 2.0
"""How long a rank that fails as another one has leaves that one to tell where in the program."""
ABORT_S = 30.0
"""An Open MPI that was told to tolerate failures has been seen to wait in its abort."""


class World:
    """One communicator: rank 0 is the root, the other ranks host the agents.

    Parameters
    ----------
    comm : MPI.Comm
    agents_per_rank : int
        A, where all ranks but the root host as many.
    node : communicator, optional
        The ranks that share this rank's memory; found out if not given.
    agents : sequence of int, shape (K,), optional
        Ids in the order of seats; 1..K if not given.
    num_enrolled : int, optional
        Agents of the run, whether they are here or not; K if not given.
    num_agents : int
        K, spread over the ranks; 0: A on each.

    Attributes
    ----------
    node : communicator
        The ranks that share this rank's memory.
    nodes : tuple of int
        Of each rank the first rank on its node.
    seats : range
        Of this rank: where its agents stand in tables of all agents, from 1; none on the root.
    all_agents : tuple of int
        Ids of all agents that are here, in the order of seats. An id stays, a seat may change.
    agents : tuple of int
        Ids of this rank's agents.
    num_enrolled : int
        Highest id.
    """

    def __init__(
        self,
        comm: Communicator,
        agents_per_rank: int = 1,
        node: Communicator | None = None,
        agents: Sequence[int] = (),
        num_enrolled: int = 0,
        num_agents: int = 0,
    ) -> None:
        self.comm: Any = comm
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        self.node: Any = node or comm.Split_type(MPI.COMM_TYPE_SHARED)
        self.nodes = tuple(comm.allgather(self.node.bcast(self.rank)))
        self.host: str = MPI.Get_processor_name()
        self.placement = Placement(self.size, num_agents or (self.size - 1) * agents_per_rank)
        counts = [len(self.placement.seats_of(rank)) for rank in range(1, self.size)]
        self._is_seat: NDArray[np.bool_] = np.arange(self.placement.agents_per_rank) < np.array([counts]).T
        self.seats = self.placement.seats_of(self.rank)
        self.all_agents = tuple(agents) or tuple(range(1, self.placement.num_agents + 1))
        self.agents = self.agents_of(self.rank)
        self.num_enrolled = num_enrolled or self.num_agents

    @property
    def local_rank(self) -> int:
        """Number of this rank among those of its node."""
        return int(self.node.Get_rank())

    @property
    def title(self) -> str:
        """This rank and what it does, for messages."""
        who = "root" if self.is_root else f"agent {', '.join(map(str, self.agents))}"
        return f"rank {self.rank} ({who}) on {self.host}"

    @property
    def is_root(self) -> bool:
        """Whether this rank aggregates."""
        return self.rank == 0

    @property
    def num_agents(self) -> int:
        """Number of agents that are here, K."""
        return self.placement.num_agents

    @property
    def num_nodes(self) -> int:
        """Number of groups of ranks that share memory."""
        return len(set(self.nodes))

    @property
    def leads_node(self) -> bool:
        """Whether this rank is the first of its node."""
        return bool(self.nodes[self.rank] == self.rank)

    def is_remote(self, rank: int) -> bool:
        """Whether a rank is on another node."""
        return bool(self.nodes[rank] != self.nodes[self.rank])

    def agents_of(self, rank: int) -> tuple[int, ...]:
        """List the ids of a rank's agents."""
        return tuple(self.all_agents[seat - 1] for seat in self.placement.seats_of(rank))

    def of_seats(self, table: NDArray[Any]) -> NDArray[Any]:
        """Take what has a place for A agents of each rank but the root, (size - 1, A, ...), to (K, ...)."""
        return table[self._is_seat]

    def seats_of_node(self) -> list[int]:
        """List the seats on this rank's node."""
        ranks = [rank for rank, node in enumerate(self.nodes) if node == self.nodes[self.rank]]
        return [seat for rank in ranks for seat in self.placement.seats_of(rank)]

    def leaders(self) -> Any:
        """Make a communicator of the first rank of each node; None on the others. Collective."""
        comm = self.comm.Split(0 if self.leads_node else MPI.UNDEFINED, self.rank)
        return comm if self.leads_node else None

    def part(self, size: int, agents_per_rank: int = 1) -> "World | None":
        """Make a world of the first `size` ranks; None on the others. Collective.

        Raises
        ------
        ValueError
            If there are fewer.
        """
        if size > self.size:
            raise ValueError(f"{size} ranks are needed, and this job has {self.size}")
        is_inside = self.rank < size
        comm = self.comm.Split(0 if is_inside else MPI.UNDEFINED, self.rank)
        return World(comm, agents_per_rank) if is_inside else None

    def meet(self, ballot: DoubleArray, meanwhile: Callable[[], bool], limit_s: float = inf) -> DoubleArray:
        """Wait until every rank is here, use the time, and return what each of them brought.

        Ranks that wait sleep between looks, so that those still at work get the cores: where 17 ranks share
        two cores, polling waiters would cost the last ones to train a good part of their time. Because of
        the sleep every hop costs up to two milliseconds; so there are only two of them, by way of the root,
        and not the log K of a collective.

        Parameters
        ----------
        ballot : float64 array, shape (n,)
        meanwhile : callable
            Does a slice of other work, and says whether there was any.
        limit_s : float
            How long the root waits; only where waits have limits.

        Returns
        -------
        float64 array, shape (size, n)
            The ballots in the order of ranks, the same on every rank.

        Raises
        ------
        Lost
            Where waits have limits.
        """
        ballots = np.empty((self.size, len(ballot)))
        if self.is_root:
            ballots[0] = ballot
            requests = [self.comm.Irecv(ballots[rank], rank) for rank in range(1, self.size)]
            wait_patiently(requests, meanwhile, limit_s)
            wait_all([self.comm.Isend(ballots, rank) for rank in range(1, self.size)])
        else:
            sent = self.comm.Isend(np.array(ballot, np.float64), 0)
            wait_patiently([self.comm.Irecv(ballots, 0)], meanwhile, inf)
            sent.Wait()
        return ballots

    def agree(self, fine: bool) -> bool:
        """Say whether all ranks are fine, the same on all of them."""
        flag = np.array([fine], np.int8)
        self.comm.Allreduce(MPI.IN_PLACE, flag, MPI.MIN)
        return bool(flag[0])

    def gather_agent_rows(self, rows: DoubleArray) -> DoubleArray | None:
        """Collect a row of float64 from each agent.

        Parameters
        ----------
        rows : float64 array, shape (A, n)
            Those of this rank's agents; ignored on the root.

        Returns
        -------
        float64 array, shape (agents of the run, n), on the root, in the order of ids; None elsewhere
            NaN for those that are not here.
        """
        shape = (self.placement.agents_per_rank, rows.shape[1])
        if not self.is_root:
            own = np.zeros(shape)
            own[: len(rows)] = rows
            self.comm.Gather(own, None)
            return None
        table = np.empty((self.size, *shape))
        self.comm.Gather(MPI.IN_PLACE, table)
        here = self.of_seats(table[1:])
        everyone = np.full((self.num_enrolled, rows.shape[1]), nan)
        everyone[np.array(self.all_agents, np.int64) - 1] = here
        return everyone

    def gather_objects(self, value: Any) -> list[Any]:
        """Collect a small Python object of each rank on every rank, pickled: for start and checkpoints."""
        values: list[Any] = self.comm.allgather(value)
        return values

    def from_root(self, value: Any) -> Any:
        """Give the root's small Python object to every rank, pickled: for start and checkpoints."""
        return self.comm.bcast(value)

    def broadcast(self, array: FloatVector) -> FloatVector:
        """Give the root's values to every rank, in place: for start and checkpoints."""
        self.comm.Bcast(array)
        return array

    def barrier(self) -> None:
        """Wait until every rank is here."""
        self.comm.Barrier()

    def fail(self, error: BaseException, alone: bool = False) -> NoReturn:
        """Tell how this rank has failed, and end every rank of the job; if `alone`, this one."""
        is_told = isinstance(error, LikewiseError)
        how = f" as did {error}\n" if is_told else f":\n{''.join(traceback.format_exception(error))}\n"
        print(f"{self.title} failed{how}", end="", file=sys.stderr, flush=True)
        if alone:
            self._die()
        if is_told:
            time.sleep(TELL_S)  # the other one ends all ranks, when it has told
        self.abort(FAILED)

    def abort(self, status: int) -> NoReturn:
        """End every rank of the job at once, and this one if MPI does not within `ABORT_S`."""
        sys.stdout.flush()
        sys.stderr.flush()
        end_after(ABORT_S)
        self.comm.Abort(status)
        raise SystemExit(status)  # mpi4py does not tell that Abort never returns

    def _die(self) -> NoReturn:
        """End this rank alone, in a way that the others see at once."""
        sys.stdout.flush()
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGKILL)
        raise SystemExit(1)

    def leave(self, status: int, limit_s: float = 0.0) -> NoReturn:
        """End this rank after all have come here; files must be closed.

        The interpreter's own teardown would take 0.2 s a rank on the numpy engine, and seconds with torch.

        Parameters
        ----------
        limit_s : float
            How long to wait for the others, some of which may be dead; 0: for ever.
        """
        if limit_s:
            end_after(limit_s)
        MPI.Finalize()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def open_world(agents_per_rank: int = 1, num_agents: int = 0) -> World:
    """Return the world of this job."""
    return World(MPI.COMM_WORLD, agents_per_rank, num_agents=num_agents)
