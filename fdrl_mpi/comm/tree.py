"""Sums formed along a tree, and models handed down it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fdrl_mpi.aggregation.views import Sum, View
from fdrl_mpi.arrays import DoubleArray, FloatMatrix, FloatVector
from fdrl_mpi.comm.allreduce import add_own_rows
from fdrl_mpi.comm.collective import Collective, Models, Traffic
from fdrl_mpi.comm.requests import Communicator, Request, wait_all
from fdrl_mpi.comm.world import World
from fdrl_mpi.topology.tree import Tree as Shape
from fdrl_mpi.topology.tree import choose_fan_out, node_tree

CHUNK_BYTES_WITHIN, CHUNK_BYTES_BETWEEN = 2**19, 2**17
"""Of a message within a node, where messages cost more than waiting for one, and between nodes."""
UP, DOWN = 101, 102
"""Tags of messages towards the root and away from it."""

Vector = NDArray[Any]


class TreeLinks:
    """One rank's links in a tree over a communicator.

    A vector travels in chunks, each sent on as soon as it is complete, so that all levels work at once. A
    parent adds its children in a fixed order: the same bits in every run.

    Parameters
    ----------
    comm : communicator
        Its ranks are those of the tree.
    shape : topology.tree.Tree
    length : int
        Values of a vector.
    dtype : float32 or uint32
    nodes : sequence of int
        Of each rank of `comm` the node, as in `World.nodes`.
    traffic : Traffic
        Where messages are counted.
    """

    def __init__(
        self,
        comm: Communicator,
        shape: Shape,
        length: int,
        dtype: DTypeLike,
        nodes: Sequence[int],
        traffic: Traffic,
    ) -> None:
        rank = comm.Get_rank()
        self._comm, self._traffic = comm, traffic
        self._parent, self._children = shape.parents[rank], shape.children[rank]
        self._is_remote = [node != nodes[rank] for node in nodes]
        chunk = _chunk_bytes(nodes) // np.dtype(dtype).itemsize
        self._chunks = [slice(start, min(start + chunk, length)) for start in range(0, length, chunk)]
        self._inbox: Vector = np.empty((2, len(self._children), min(chunk, length)), dtype)

    def add_up(self, vector: Vector) -> None:
        """Add the vectors of all ranks below to this rank's, in place, and pass the sum on.

        Afterwards rank 0 holds the sum of all; what other ranks hold means nothing.
        """
        sends, arriving = [], self._receive(0)
        for number, chunk in enumerate(self._chunks):
            arrived, arriving = arriving, self._receive(number + 1)
            part = vector[chunk]
            for child, request in enumerate(arrived):
                request.Wait()
                received = self._inbox[number % 2, child, : len(part)]
                self._traffic.received(part.nbytes, is_remote=self._is_remote[self._children[child]])
                self.take(child, number, received, part)
            if self._parent >= 0:
                self.complete(number, part)
                sends.append(self._comm.Isend(part, self._parent, UP))
                self._traffic.sent(part.nbytes)
        wait_all(sends)

    def take(self, child: int, number: int, received: Vector, part: Vector) -> None:
        """Add a chunk that came from a child to this rank's."""
        part += received

    def complete(self, number: int, part: Vector) -> None:
        """Do what is to be done to a chunk before it goes to the parent."""

    def hand_down(self, vector: Vector) -> None:
        """Give rank 0's vector to all ranks, in place."""
        sends: list[Request] = []
        parts = [vector[chunk] for chunk in self._chunks]
        arriving = [self._comm.Irecv(part, self._parent, DOWN) for part in parts if self._parent >= 0]
        for number, part in enumerate(parts):
            if arriving:
                arriving[number].Wait()
                self._traffic.received(part.nbytes, is_remote=self._is_remote[self._parent])
            for child in self._children:
                sends.append(self._comm.Isend(part, child, DOWN))
                self._traffic.sent(part.nbytes)
        wait_all(sends)

    def _receive(self, number: int) -> list[Request]:
        """Expect a chunk of every child; nothing after the last one."""
        if number >= len(self._chunks):
            return []
        chunk = self._chunks[number]
        inbox = self._inbox[number % 2, :, : chunk.stop - chunk.start]
        return [self._comm.Irecv(row, child, UP) for row, child in zip(inbox, self._children, strict=True)]


def _chunk_bytes(nodes: Sequence[int]) -> int:
    """Choose the size of a message for ranks on these nodes."""
    return CHUNK_BYTES_WITHIN if len(set(nodes)) == 1 else CHUNK_BYTES_BETWEEN


def tree_shape(nodes: Sequence[int], num_params: int, fan_out: int) -> Shape:
    """Lay a tree over ranks on these nodes; a `fan_out` of 0 is chosen from the size of job and model."""
    num_chunks = max(-(-4 * num_params // _chunk_bytes(nodes)), 1)
    return node_tree(nodes, fan_out or choose_fan_out(len(nodes), num_chunks), num_chunks)


class Tree(Collective):
    """Partial sums travel up a tree to the root, the model travels down it: O(log K) steps.

    Parameters
    ----------
    world : World
    num_params : int
        Length of a model, d.
    fan_out : int
        Most children of a rank; 0: chosen between 2 and 8.
    """

    name = "tree"
    gives = View.SUM
    has_global_model = True
    hides_updates = False
    is_root_alone = True

    def __init__(self, world: World, num_params: int, fan_out: int = 0) -> None:
        self.traffic = Traffic()
        self.rows: FloatMatrix = np.zeros((len(world.agents), num_params), np.float32)
        self.shape = tree_shape(world.nodes, num_params, fan_out)
        self._world = world
        self._links = TreeLinks(world.comm, self.shape, num_params, np.float32, world.nodes, self.traffic)
        self._buffer, self._last = (np.zeros(num_params, np.float32) for _ in range(2))

    def encode(self, models: Models, own_weights: DoubleArray, weights: DoubleArray) -> None:
        """Add up the rows times their agents' shares, not where the last model lies."""
        self._buffer, self._last = self._last, self._buffer
        add_own_rows(self._world, self.rows, weights, out=self._buffer)

    def exchange(self) -> Sum | None:
        """Return the weighted sum of all updates on the root, and None elsewhere."""
        self._links.add_up(self._buffer)
        return Sum(self._buffer, 1.0) if self._world.is_root else None

    def publish(self, params: FloatVector) -> Models:
        """Hand the root's `params` down to every rank."""
        if self._world.is_root and params is not self._buffer:
            self._buffer[:] = params
        self._links.hand_down(self._buffer)
        return [self._buffer] * max(len(self.rows), 1)
