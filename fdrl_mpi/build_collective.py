"""From names in a configuration to what moves the models."""

import logging

from fdrl_mpi.aggregation.views import View
from fdrl_mpi.comm.allreduce import Allreduce
from fdrl_mpi.comm.collective import Collective
from fdrl_mpi.comm.gather import Gather
from fdrl_mpi.comm.isolated import Isolated
from fdrl_mpi.comm.node import Node, NodeStack, NodeSum
from fdrl_mpi.comm.tree import Tree
from fdrl_mpi.comm.world import World
from fdrl_mpi.config import CommConfig, Config

LOG = logging.getLogger(__name__)

COLLECTIVES: dict[str, type[Collective]] = {
    "allreduce": Allreduce,
    "gather": Gather,
    "node": Node,
    "tree": Tree,
}
"""What a name in the configuration means for the rules: which view it gives, whether there is one model."""


def make_collective(config: Config, world: World, num_params: int, needs: View) -> Collective:
    """Make what moves the models of this run; every rank calls it.

    Parameters
    ----------
    num_params : int
        d.
    needs : View
        What the aggregation rule must see.
    """
    if config.mode == "independent":
        return Isolated(world, num_params)
    return collective_of(config.comm, world, num_params, needs)


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
    num_nodes = len(set(world.nodes))
    if needs == View.STACK or num_nodes < world.size:
        return "node"
    return "allreduce"


def _node(comm: CommConfig, world: World, num_params: int, needs: View) -> Collective:
    if len(set(world.nodes)) == 1:
        return Node(world, num_params)
    if needs == View.SUM:
        return NodeSum(world, num_params, comm.fan_out)
    return NodeStack(world, num_params)
