"""Which rank hosts how many agents."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Placement:
    """Rank 0 is the root; every other rank has the same number of seats for agents.

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

    def seats_of(self, rank: int) -> range:
        """List the numbers of a rank's seats, from 1 to K; the root has none."""
        first = (rank - 1) * self.agents_per_rank + 1
        return range(first, first + self.agents_per_rank) if rank else range(0)
