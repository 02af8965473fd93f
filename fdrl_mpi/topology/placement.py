"""Which rank hosts which agents."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Placement:
    """Rank 0 is the root; every other rank hosts the same number of agents, in the order of their ids.

    Attributes
    ----------
    num_ranks : int
        Ranks of the job, the root included.
    agents_per_rank : int
        A.
    """

    num_ranks: int
    agents_per_rank: int = 1

    @property
    def num_agents(self) -> int:
        """Number of agents, K."""
        return (self.num_ranks - 1) * self.agents_per_rank

    def agents_of(self, rank: int) -> range:
        """List the ids of a rank's agents, from 1 to K; the root has none."""
        first = (rank - 1) * self.agents_per_rank + 1
        return range(first, first + self.agents_per_rank) if rank else range(0)
