"""Graphs of agents that talk to each other, and the weights with which they mix their models.

Agents are numbered from 0 here.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from math import isqrt

import numpy as np

from fdrl_mpi.arrays import DoubleArray
from fdrl_mpi.streams import stream

TOLERANCE = 1e-9

Edges = frozenset[tuple[int, int]]
"""Undirected edges ``(i, j)`` with i < j."""


def ring(num_agents: int) -> Edges:
    """Join every agent with the next one, and the last with the first."""
    return _edges((i, (i + 1) % num_agents) for i in range(num_agents))


def torus(num_agents: int) -> Edges:
    """Join every agent with its four neighbours on a grid without border, as square as K allows.

    Raises
    ------
    ValueError
        If K is prime: its only grid is a ring.
    """
    rows = next(divisor for divisor in range(isqrt(num_agents), 0, -1) if num_agents % divisor == 0)
    columns = num_agents // rows
    if rows == 1 and num_agents > 3:
        raise ValueError(f"{num_agents} agents form no grid of several rows: choose ring, or another number")
    places = [(row, column) for row in range(rows) for column in range(columns)]
    down = ((r * columns + c, (r + 1) % rows * columns + c) for r, c in places)
    right = ((r * columns + c, r * columns + (c + 1) % columns) for r, c in places)
    return _edges([*down, *right])


def hypercube(num_agents: int) -> Edges:
    """Join agents whose numbers differ in one binary digit.

    Raises
    ------
    ValueError
        If K is no power of 2.
    """
    if num_agents & (num_agents - 1):
        raise ValueError(f"{num_agents} agents are no power of 2: choose exponential, or another number")
    bits = range(num_agents.bit_length() - 1)
    return _edges((i, i ^ (1 << bit)) for i in range(num_agents) for bit in bits)


def exponential(num_agents: int) -> Edges:
    """Join every agent with those at distances 1, 2, 4, ... along a ring, in both directions.

    References
    ----------
    Assran et al., "Stochastic Gradient Push for Distributed Deep Learning", ICML 2019; undirected here, so
    that the mixing is symmetric.
    """
    distances = [1 << bit for bit in range((num_agents - 1).bit_length())]
    return _edges((i, (i + distance) % num_agents) for i in range(num_agents) for distance in distances)


def complete(num_agents: int) -> Edges:
    """Join every agent with every other."""
    return _edges((i, j) for i in range(num_agents) for j in range(i))


def random_regular(num_agents: int, degree: int, seed: int) -> Edges:
    """Draw a connected graph in which every agent has `degree` neighbours.

    Stubs are paired at random; pairs that are loops or double are drawn again with others (Steger and
    Wormald, "Generating random regular graphs quickly", 1999), and whole graphs until one is connected.

    Raises
    ------
    ValueError
        If there is no such graph: K times the degree is odd, or the degree is not between 2 and K - 1.
    """
    if degree * num_agents % 2 or not 2 <= degree < num_agents:
        raise ValueError(
            f"no connected graph gives each of {num_agents} agents {degree} neighbours: choose a degree "
            f"between 2 and {num_agents - 1} whose product with {num_agents} is even"
        )
    generator = stream(seed, "graph")
    while True:
        edges = _paired(num_agents, degree, generator)
        if edges is not None and is_connected(num_agents, edges):
            return edges


def _paired(num_agents: int, degree: int, generator: np.random.Generator) -> Edges | None:
    """Pair stubs until none is left; None where those that are left cannot be paired."""
    edges: set[tuple[int, int]] = set()
    stubs = np.repeat(np.arange(num_agents), degree)
    while len(stubs):
        generator.shuffle(stubs)
        left: list[int] = []
        for i, j in stubs.reshape(-1, 2).tolist():
            edge = (min(i, j), max(i, j))
            if i == j or edge in edges:
                left += edge
            else:
                edges.add(edge)
        if len(left) == len(stubs):
            return None
        stubs = np.array(left, np.int64)
    return frozenset(edges)


def given(num_agents: int, pairs: Iterable[Sequence[int]]) -> Edges:
    """Take the edges that a user lists, by agent ids from 1 to K.

    Raises
    ------
    ValueError
        If a pair has not two different ids from 1 to K.
    """
    edges = []
    for pair in pairs:
        if len(pair) != 2 or pair[0] == pair[1] or not all(1 <= agent <= num_agents for agent in pair):
            raise ValueError(f"edge {list(pair)} does not join two different agents from 1 to {num_agents}")
        edges.append((pair[0] - 1, pair[1] - 1))
    return _edges(edges)


def is_connected(num_agents: int, edges: Edges) -> bool:
    """Say whether every agent can be reached from every other."""
    return len(_reachable(num_agents, edges)) == num_agents


def check_connected(num_agents: int, edges: Edges) -> None:
    """Refuse a graph that falls apart.

    Raises
    ------
    ValueError
        If one does not reach all agents; the message names some it does not.
    """
    missing = sorted(set(range(num_agents)) - _reachable(num_agents, edges))
    if missing:
        names = ", ".join(str(agent + 1) for agent in missing[:5])
        raise ValueError(
            f"agent 1 is not connected with {len(missing)} others ({names}{', ...' if missing[5:] else ''}): "
            "their models would never meet"
        )


def metropolis_hastings(num_agents: int, edges: Edges) -> DoubleArray:
    """Compute mixing weights: symmetric, so rows and columns add up to 1, and positive along edges.

    ``w_ij = 1 / (1 + max(degree_i, degree_j))`` for neighbours, the rest of each row on the diagonal (Xiao,
    Boyd and Kim, "Distributed average consensus with least-mean-square deviation", 2007, section 4).

    Returns
    -------
    float64 array, shape (K, K)
    """
    degrees = np.zeros(num_agents, np.int64)
    for i, j in edges:
        degrees[[i, j]] += 1
    weights = np.zeros((num_agents, num_agents))
    for i, j in edges:
        weights[i, j] = weights[j, i] = 1.0 / (1.0 + max(degrees[i], degrees[j]))
    np.fill_diagonal(weights, 1.0 - weights.sum(axis=1))
    return weights


def constant_step(num_agents: int, edges: Edges, step: float) -> DoubleArray:
    """Compute the mixing weights of ``theta_k += step * sum_j (theta_j - theta_k)`` over the neighbours j."""
    weights = np.zeros((num_agents, num_agents))
    for i, j in edges:
        weights[i, j] = weights[j, i] = step
    np.fill_diagonal(weights, 1.0 - weights.sum(axis=1))
    return weights


def check_mixing(weights: DoubleArray) -> None:
    """Refuse a mixing matrix that does not keep the mean of all models, or does not bring them together.

    Raises
    ------
    ValueError
        If a row or a column does not add up to 1, or `contraction` is not below 1.
    """
    for axis, name in ((1, "row"), (0, "column")):
        sums = weights.sum(axis=axis)
        worst = int(np.abs(sums - 1.0).argmax())
        if abs(sums[worst] - 1.0) > TOLERANCE:
            raise ValueError(
                f"{name} {worst + 1} of the mixing matrix adds up to {sums[worst]:.6g}, not 1: it is not "
                "doubly stochastic, and the mean of the models would drift"
            )
    if (factor := contraction(weights)) > 1.0 - TOLERANCE:
        neighbours = int((np.count_nonzero(weights, axis=1) - (np.diag(weights) != 0.0)).max())
        raise ValueError(
            f"a round multiplies the differences between models by up to {factor:.3g}, so they never agree: "
            f"with at most {neighbours} neighbours each, a step below 1/{max(neighbours, 1)} is safe"
        )


def contraction(weights: DoubleArray) -> float:
    """Compute by how much a round shrinks the distance from the mean: the second-largest singular value.

    For a symmetric matrix that is the second-largest eigenvalue by magnitude.
    """
    size = len(weights)
    deviation = weights - np.full((size, size), 1.0 / size)
    if np.array_equal(deviation, deviation.T):
        return float(np.abs(np.linalg.eigvalsh(deviation)).max())
    return float(np.linalg.norm(deviation, 2))


def _reachable(num_agents: int, edges: Edges) -> set[int]:
    neighbours: list[list[int]] = [[] for _ in range(num_agents)]
    for i, j in edges:
        neighbours[i].append(j)
        neighbours[j].append(i)
    found, queue = {0}, deque([0])
    while queue:
        for agent in neighbours[queue.popleft()]:
            if agent not in found:
                found.add(agent)
                queue.append(agent)
    return found


def _edges(pairs: Iterable[tuple[int, int]]) -> Edges:
    """Order each pair and drop loops and doubles."""
    return frozenset((min(i, j), max(i, j)) for i, j in pairs if i != j)
