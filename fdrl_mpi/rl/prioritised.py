"""Drawing transitions in proportion to their priorities."""

import numpy as np

from fdrl_mpi.arrays import DoubleArray, FloatVector, IntVector, State


class PriorityTree:
    """A binary tree of sums over `capacity` priorities; all operations take many leaves at once.

    Attributes
    ----------
    nodes : float64 array, shape (2 * leaves,)
        Node 1 is the root, the children of i are 2 i and 2 i + 1, and the last half are the leaves.
    """

    def __init__(self, capacity: int) -> None:
        self._leaves = 1 << (capacity - 1).bit_length()
        self.nodes: DoubleArray = np.zeros(2 * self._leaves)

    @property
    def total(self) -> float:
        """Sum of all priorities."""
        return float(self.nodes[1])

    def set(self, indices: IntVector, priorities: DoubleArray | float) -> None:
        """Give leaves new priorities; of an index that occurs twice the last one counts."""
        nodes = indices + self._leaves
        self.nodes[nodes] = priorities
        while nodes[0] > 1:
            nodes = np.unique(nodes >> 1)
            self.nodes[nodes] = self.nodes[2 * nodes] + self.nodes[2 * nodes + 1]

    def draw(self, generator: np.random.Generator, count: int) -> IntVector:
        """Draw `count` leaves, one from each of `count` equal parts of the total (stratified)."""
        mass = (np.arange(count) + generator.random(count)) * (self.total / count)
        nodes: IntVector = np.ones(count, np.int64)
        while nodes[0] < self._leaves:
            nodes *= 2
            left = self.nodes[nodes]
            goes_right = (mass >= left) & (self.nodes[nodes + 1] > 0.0)
            mass -= np.where(goes_right, left, 0.0)
            nodes += goes_right
        return nodes - self._leaves


class Priorities:
    """Which transitions of a replay buffer to draw, and how much each counts.

    Transition i has probability ``p_i^alpha / sum_j p_j^alpha``, p being the size of its last error; a new
    one has the largest priority so far. Its weight is ``(N P(i))^-beta``, over the largest of the batch.

    Parameters
    ----------
    capacity : int
    alpha, beta : float in [0, 1]

    References
    ----------
    Schaul et al., "Prioritized Experience Replay", ICLR 2016, equation 1 and section 3.4.
    """

    floor = 1e-6
    """Added to errors, so that no transition is forgotten."""

    def __init__(self, capacity: int, alpha: float, beta: float) -> None:
        self._tree, self._alpha, self._beta = PriorityTree(capacity), alpha, beta
        self._largest = 1.0

    def add(self, indices: IntVector) -> None:
        """Give new transitions the largest priority."""
        self._tree.set(indices, self._largest)

    def draw(self, generator: np.random.Generator, count: int, filled: int) -> tuple[IntVector, FloatVector]:
        """Return the indices of `count` transitions of `filled`, and their weights."""
        indices = self._tree.draw(generator, count)
        probability = self._tree.nodes[indices + len(self._tree.nodes) // 2] / self._tree.total
        weights = (filled * probability) ** -self._beta
        return indices, (weights / weights.max()).astype(np.float32)

    def renew(self, indices: IntVector, errors: FloatVector) -> None:
        """Set priorities by the errors that were found."""
        priorities = (np.abs(errors).astype(np.float64) + self.floor) ** self._alpha
        self._largest = max(self._largest, float(priorities.max()))
        self._tree.set(indices, priorities)

    def get_state(self) -> State:
        """Return the priorities."""
        return {"nodes": self._tree.nodes.copy(), "largest": self._largest}

    def set_state(self, state: State) -> None:
        """Go on from `get_state`."""
        self._tree.nodes[:] = state["nodes"]
        self._largest = float(state["largest"])
