"""From names in a configuration to what moves the models."""

import logging
from functools import lru_cache
from pathlib import Path

import numpy as np

from fdrl_mpi.aggregation.views import View
from fdrl_mpi.aggregation.weighting import largest_weight
from fdrl_mpi.arrays import DoubleArray, IntVector
from fdrl_mpi.comm.allreduce import Allreduce
from fdrl_mpi.comm.collective import Collective
from fdrl_mpi.comm.gather import Gather
from fdrl_mpi.comm.gossip import Gossip
from fdrl_mpi.comm.isolated import Isolated
from fdrl_mpi.comm.node import Node, NodeStack, NodeSum
from fdrl_mpi.comm.tree import Tree
from fdrl_mpi.comm.world import World
from fdrl_mpi.config import CommConfig, Config, FedPGConfig, GossipConfig
from fdrl_mpi.topology import graph

LOG = logging.getLogger(__name__)

GIVES = {
    "allreduce": View.SUM,
    "auto": View.STACK,
    "gather": View.STACK,
    "gossip": View.SUM,
    "node": View.STACK,
    "secure_ring": View.SUM,
    "tree": View.SUM,
}
"""What each collective lets be seen at most."""

ROOT_ALONE = ("auto", "gather", "secure_ring", "tree")
"""Collectives that show the aggregate to the root alone, or can be chosen so."""

GRAPHS = {
    "ring": graph.ring,
    "torus": graph.torus,
    "hypercube": graph.hypercube,
    "exponential": graph.exponential,
    "complete": graph.complete,
}


def make_collective(
    config: Config, world: World, num_params: int, needs: View, num_changes: int = 0
) -> Collective:
    """Make what moves the models of this run; every rank calls it.

    Parameters
    ----------
    num_params : int
        d.
    needs : View
        What the aggregation rule must see.
    num_changes : int
        Numbers at the start of what agents hand in that are changes, not parameters.
    """
    if config.mode == "independent":
        return Isolated(world, num_params)
    if config.comm.collective == "gossip":
        return Gossip(world, num_params, mixing_matrix(config.comm.gossip, world.num_agents, config.seed))
    if config.comm.collective == "secure_ring":
        return _secure_ring(config, world, num_params, num_changes)
    if config.comm.collective == "auto" and isinstance(config.aggregation.server, FedPGConfig):
        return Tree(world, num_params, config.comm.fan_out)
    return collective_of(config.comm, world, num_params, needs)


def _secure_ring(config: Config, world: World, num_params: int, num_changes: int) -> Collective:
    from fdrl_mpi.comm.secure_ring import SecureRing, SecureSettings  # cryptography: 10 ms a rank

    secure = config.comm.secure
    if world.is_root and secure.identity == "none":
        LOG.warning(
            "secure sum without identities: nobody proves who it is, so only a passive root is withstood, "
            "and a network that changes nothing; give every party a key with comm.secure.identity = roster"
        )
    settings = SecureSettings(
        secure.ring_degree,
        secure.colluders,
        secure.dropouts,
        secure.range,
        largest_weight(config.aggregation.weighting, config.learner.budget),
        Path(secure.roster) if secure.identity == "roster" else None,
        secure.private_key,
        config.comm.fan_out,
    )
    return SecureRing(world, num_params, settings, num_changes)


@lru_cache(maxsize=1)
def mixing_matrix(gossip: GossipConfig, num_agents: int, seed: int) -> DoubleArray:
    """Compute with which weights agents mix the models of their neighbours, shape (K, K).

    Raises
    ------
    ValueError
        If there is no such graph, it is not connected, or the weights are not doubly stochastic.
    """
    if gossip.graph == "own" and gossip.matrix:
        matrix = np.array(gossip.matrix) if set(map(len, gossip.matrix)) == {num_agents} else np.empty(0)
        if matrix.shape != (num_agents, num_agents):
            raise ValueError(f"the mixing matrix has not {num_agents} rows of {num_agents} weights each")
        rows, columns = np.nonzero(matrix)
        graph.check_connected(num_agents, graph.given(num_agents, _between(rows + 1, columns + 1)))
    else:
        edges = _edges(gossip, num_agents, seed)
        graph.check_connected(num_agents, edges)
        if gossip.step:
            matrix = graph.constant_step(num_agents, edges, gossip.step)
        else:
            matrix = graph.metropolis_hastings(num_agents, edges)
    graph.check_mixing(matrix)
    return matrix


def _between(rows: IntVector, columns: IntVector) -> list[tuple[int, int]]:
    return [(i, j) for i, j in zip(rows.tolist(), columns.tolist(), strict=True) if i != j]


def _edges(gossip: GossipConfig, num_agents: int, seed: int) -> graph.Edges:
    if gossip.graph == "random":
        return graph.random_regular(num_agents, gossip.degree, seed)
    if gossip.graph == "own":
        return graph.given(num_agents, gossip.edges)
    return GRAPHS[gossip.graph](num_agents)


def collective_of(comm: CommConfig, world: World, num_params: int, needs: View) -> Collective:
    """Make the collective that a configuration names, or the one that suits if it says "auto"."""
    name = choose(world, needs) if comm.collective == "auto" else comm.collective
    if name == "node":
        try:
            return _node(comm, world, num_params, needs)
        except OSError as error:
            name = "allreduce" if needs == View.SUM else "gather"
            if world.is_root:
                LOG.warning("models travel by %s instead of shared memory: %s", name, error)
    if name == "tree":
        return Tree(world, num_params, comm.fan_out)
    return Allreduce(world, num_params) if name == "allreduce" else Gather(world, num_params)


def choose(world: World, needs: View) -> str:
    """Choose the name of a collective: shared memory wherever ranks share some."""
    num_nodes = world.num_nodes
    if needs == View.STACK or num_nodes < world.size:
        return "node"
    return "allreduce"


def _node(comm: CommConfig, world: World, num_params: int, needs: View) -> Collective:
    if world.num_nodes == 1:
        return Node(world, num_params)
    if needs == View.SUM:
        return NodeSum(world, num_params, comm.fan_out)
    return NodeStack(world, num_params)
