"""Models in memory that the ranks of a node share; every rank works on its own slice of coordinates.

`Node` is for one node, `NodeSum` and `NodeStack` for several.
"""

import numpy as np
from mpi4py import MPI

from fdrl_mpi.aggregation.sums import BLOCK, LINE, shares, weighted_sum
from fdrl_mpi.aggregation.views import Received, Stack, Sum, View
from fdrl_mpi.arrays import DoubleArray, FloatMatrix, FloatVector
from fdrl_mpi.comm.collective import Collective, Models, Traffic
from fdrl_mpi.comm.shared_memory import SharedMemory
from fdrl_mpi.comm.tree import TreeLinks, tree_shape
from fdrl_mpi.comm.world import World
from fdrl_mpi.topology.slices import cut

PAGE = 1024
"""Values in a page."""


class NodeMemory:
    """The shared memory of one node: two models, a sum, and a row for each of its agents.

    Two models, so that the last one is whole until the next one is.

    Attributes
    ----------
    models : float32 array, shape (2, d)
    sum : float32 array, shape (d,)
    rows : float32 array, shape (agents of the node, d)
        In the order of agent ids.
    """

    def __init__(self, world: World, num_params: int) -> None:
        stride = -(-num_params // LINE) * LINE
        stride += LINE if stride % PAGE == 0 else 0  # else a column of all rows falls into one set of a cache
        seats = world.seats_of_node()
        num_rows, first = len(seats), seats.index(world.seats.start) if world.seats else 0
        itemsize = np.dtype(np.float32).itemsize
        own = [(3 + row) * stride * itemsize for row in range(first, first + len(world.agents))]
        common = [0, stride * itemsize, 2 * stride * itemsize] if world.node.Get_rank() == 0 else []
        memory, trouble = None, ""
        try:
            reserved = [(start, stride * itemsize) for start in common + own]
            memory = SharedMemory(world.node, (3 + num_rows) * stride * itemsize, reserved).memory
        except OSError as error:
            trouble = str(error)
        troubles = [text for text in world.gather_objects(trouble) if text]
        if memory is None or troubles:
            raise OSError(troubles[0])
        matrix: FloatMatrix = np.frombuffer(memory, np.float32).reshape(-1, stride)[:, :num_params]
        self.models: FloatMatrix = matrix[:2]
        self.sum: FloatVector = matrix[2]
        self.rows: FloatMatrix = matrix[3:]
        self.own_rows: FloatMatrix = self.rows[first : first + len(world.agents)]


class Node(Collective):
    """Models in the memory of one node.

    An agent's row is its model: handing in costs no copy, and every rank reads the next model in place. Each
    rank works on a slice of the coordinates, and sees that slice of all rows.

    Parameters
    ----------
    world : World
    num_params : int
        Length of a model, d.

    Raises
    ------
    OSError
        On all ranks, if /dev/shm is missing or too small on one node.
    """

    name = "node"
    gives = View.STACK
    has_global_model = True
    hides_updates = False
    is_root_alone = False

    def __init__(self, world: World, num_params: int) -> None:
        self.traffic = Traffic()
        self._world, self._node = world, world.node
        self._memory = NodeMemory(world, num_params)
        self.rows: FloatMatrix = self._memory.own_rows
        self._turn, self._model = 0, self._memory.models[0]
        self._weights: FloatVector = np.zeros(world.num_agents, np.float32)
        self._columns = cut(num_params, self._node.Get_size(), BLOCK)[self._node.Get_rank()]

    def encode(self, models: Models, own_weights: DoubleArray, weights: DoubleArray) -> None:
        """Keep the weights, and leave the last model: the rows are where they are needed."""
        self._weights = weights.astype(np.float32)
        self._model = self._memory.models[self._turn]
        self._turn = 1 - self._turn
        self.traffic.sent(int(np.count_nonzero(own_weights)) * self._model.nbytes, messages=0)
        self.traffic.received(self._model.nbytes, messages=0)

    def exchange(self) -> Received:
        """Return this rank's slice of all updates."""
        rows = self._memory.rows[:, self._columns]
        return Stack(rows, self._weights, self._columns, self._add_up)

    def publish(self, params: FloatVector) -> Models:
        """Put this rank's slice into the shared model and wait for the others."""
        self._model[self._columns] = params
        self._node.Barrier()
        return [self._model] * max(len(self.rows), 1)

    def _add_up(self, partial: DoubleArray) -> DoubleArray:
        total = np.array(partial, np.float64)
        self._world.comm.Allreduce(MPI.IN_PLACE, total)
        return total


class NodeSum(Node):
    """Models in the memory of several nodes, whose first ranks add the nodes' sums along a tree.

    Parameters
    ----------
    world : World
    num_params : int
        Length of a model, d.
    fan_out : int
        Of the tree between nodes; 0: chosen.

    Raises
    ------
    OSError
        On all ranks, if /dev/shm is missing or too small on one node.
    """

    name = "node and tree"
    gives = View.SUM

    def __init__(self, world: World, num_params: int, fan_out: int = 0) -> None:
        super().__init__(world, num_params)
        self._own = [seat - 1 for seat in world.seats_of_node()]
        leaders = world.leaders()
        self._links: TreeLinks | None = None
        if leaders is not None:
            nodes = range(leaders.Get_size())
            shape = tree_shape(nodes, num_params, fan_out)
            self._links = TreeLinks(leaders, shape, num_params, np.float32, nodes, self.traffic)

    def exchange(self) -> Received:
        """Return this rank's slice of the weighted sum of all updates."""
        memory, columns = self._memory, self._columns
        weighted_sum(shares(self._weights)[self._own], memory.rows[:, columns], memory.sum[columns])
        self._node.Barrier()
        if self._links is not None:
            self._links.add_up(memory.sum)
            self._links.hand_down(memory.sum)
        self._node.Barrier()
        return Sum(memory.sum[columns], 1.0, columns)


class NodeStack(Node):
    """Models in the memory of several nodes, for rules that need single updates.

    Every rank works on a slice of its own, of all ranks. It reads that slice of its node's rows, and gets
    that of the others by one `MPI_Alltoallv`; then the nodes' first ranks tell each other their nodes' slices
    of the next model.

    Parameters
    ----------
    world : World
    num_params : int
        Length of a model, d.

    Raises
    ------
    OSError
        On all ranks, if /dev/shm is missing or too small on one node.
    """

    name = "node and alltoall"

    def __init__(self, world: World, num_params: int) -> None:
        super().__init__(world, num_params)
        order = sorted(range(world.size), key=lambda rank: (world.nodes[rank], rank))
        slices = dict(zip(order, cut(num_params, world.size, BLOCK), strict=True))
        self._slices = [slices[rank] for rank in range(world.size)]
        self._columns = slices[world.rank]
        self._is_remote = [world.is_remote(rank) for rank in range(world.size)]
        self._own = [seat - 1 for seat in world.seats_of_node()]
        self._leaders = world.leaders()
        self._outbox: FloatVector = np.empty(world.placement.agents_per_rank * num_params, np.float32)
        width = self._columns.stop - self._columns.start
        self._stack: FloatMatrix = np.zeros((world.num_agents, width), np.float32)

    def exchange(self) -> Received:
        """Return this rank's slice of all updates."""
        self._stack[self._own] = self._memory.rows[:, self._columns]
        self._pull()
        return Stack(self._stack, self._weights, self._columns, self._add_up)

    def publish(self, params: FloatVector) -> Models:
        """Put this rank's slice into the shared model, and the slices of other nodes."""
        self._model[self._columns] = params
        self._node.Barrier()
        if self._leaders is not None:
            bounds = self._leaders.allgather(self._node_bounds())
            counts, starts = [stop - start for start, stop in bounds], [start for start, _ in bounds]
            self._leaders.Allgatherv(MPI.IN_PLACE, [self._model, counts, starts, MPI.FLOAT])
            own = counts[self._leaders.Get_rank()]
            self.traffic.sent(4 * own)
            self.traffic.received(4 * (sum(counts) - own), is_remote=True)
        self._node.Barrier()
        return [self._model] * max(len(self.rows), 1)

    def _node_bounds(self) -> tuple[int, int]:
        """Say which part of the model this node's ranks work on."""
        mine = [s for s, remote in zip(self._slices, self._is_remote, strict=True) if not remote]
        return min(s.start for s in mine), max(s.stop for s in mine)

    def _pull(self) -> None:
        """Send slices of this rank's rows to the ranks of other nodes, and get theirs.

        A rank's rows follow each other in the stack, so what it sends is received in its place.
        """
        placement, width = self._world.placement, self._stack.shape[1]
        sent_counts, sent_starts, filled = [], [], 0
        for columns, is_remote in zip(self._slices, self._is_remote, strict=True):
            part = self.rows[:, columns] if is_remote else self.rows[:0]
            self._outbox[filled : filled + part.size] = part.ravel()
            sent_counts.append(part.size)
            sent_starts.append(filled)
            filled += part.size
        seats = [placement.seats_of(rank) for rank in range(self._world.size)]
        counts = [
            len(theirs) * width if is_remote else 0
            for theirs, is_remote in zip(seats, self._is_remote, strict=True)
        ]
        starts = [(theirs.start - 1) * width if theirs else 0 for theirs in seats]
        self._world.comm.Alltoallv(
            [self._outbox, sent_counts, sent_starts, MPI.FLOAT], [self._stack, counts, starts, MPI.FLOAT]
        )
        self.traffic.sent(4 * sum(sent_counts))
        self.traffic.received(4 * sum(counts), is_remote=True)
