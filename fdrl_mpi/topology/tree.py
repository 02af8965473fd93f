"""Trees along which sums are formed and models handed down."""

from collections.abc import Sequence
from dataclasses import dataclass

LARGEST_FAN_OUT = 8


@dataclass(frozen=True)
class Tree:
    """A tree over the ranks 0 to n - 1 with rank 0 on top.

    Attributes
    ----------
    parents : tuple of int
        Of each rank; -1 for rank 0.
    children : tuple of tuples of int
        Of each rank, those on its own node first.
    """

    parents: tuple[int, ...]
    children: tuple[tuple[int, ...], ...]

    @property
    def depth(self) -> int:
        """Edges between rank 0 and the farthest rank."""
        return max(self._edges_above(rank) for rank in range(len(self.parents)))

    def _edges_above(self, rank: int) -> int:
        edges = 0
        while (rank := self.parents[rank]) >= 0:
            edges += 1
        return edges


def node_tree(nodes: Sequence[int], fan_out: int, num_chunks: int = 1) -> Tree:
    """Make a tree that crosses between nodes as seldom as can be: once for each node but the first.

    The ranks of a node form a complete `fan_out`-ary tree below their first rank. That rank hangs below the
    highest rank of the parent node that has a place free. How many nodes hang below one follows from
    `num_chunks`: a chain moves a long model over each link once, a wide tree a short one in few steps.

    Parameters
    ----------
    nodes : sequence of int
        Node of each rank.
    fan_out : int
        Most children of a rank, at least 2.
    num_chunks : int
        Pieces in which a model travels.

    Raises
    ------
    ValueError
        If `fan_out` is less than 2.
    """
    if fan_out < 2:
        raise ValueError(f"a tree with a fan-out of {fan_out} has no O(log K) depth: choose 2 or more")
    ranks_of: dict[int, list[int]] = {}
    for rank, node in enumerate(nodes):
        ranks_of.setdefault(node, []).append(rank)
    groups = list(ranks_of.values())
    parents = [-1] * len(nodes)
    children: list[list[int]] = [[] for _ in nodes]

    def hang(rank: int, parent: int) -> None:
        parents[rank] = parent
        children[parent].append(rank)

    for ranks in groups:
        for place in range(1, len(ranks)):
            hang(ranks[place], ranks[(place - 1) // fan_out])
    width = _cheapest(len(groups), range(1, min(fan_out, len(nodes)) + 1), num_chunks)
    for place in range(1, len(groups)):
        above = groups[(place - 1) // width]
        hang(groups[place][0], next(rank for rank in above if len(children[rank]) < fan_out))
    return Tree(tuple(parents), tuple(map(tuple, children)))


def choose_fan_out(num_ranks: int, num_chunks: int) -> int:
    """Choose between 2 and 8: few levels for a short model, few children for a long one."""
    return _cheapest(num_ranks, range(2, LARGEST_FAN_OUT + 1), num_chunks)


def _cheapest(size: int, fan_outs: Sequence[int], num_chunks: int) -> int:
    """Choose the fan-out whose pipeline takes the fewest transfers one after another.

    A rank takes f chunks from its children one after another, the deepest chunk passes all levels, the others
    follow it: ``f (levels + chunks - 1)``. Among equals the one with the fewest levels wins.
    """
    return min(fan_outs, key=lambda f: (f * (_levels(size, f) + num_chunks - 1), -f))


def _levels(size: int, fan_out: int) -> int:
    """Count the edges between the top of a complete tree and its deepest rank."""
    levels, held, width = 0, 1, 1
    while held < size:
        width *= fan_out
        held += width
        levels += 1
    return levels
