"""Which rank hosts how many agents."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Placement:
    """Rank 0 is the root; the seats for agents are spread over the other ranks as evenly as they go.

    Attributes
    ----------
    num_ranks : int
        Ranks of the job, the root included.
    num_agents : int
        K.
    """

    num_ranks: int
    num_agents: int

    @property
    def agents_per_rank(self) -> int:
        """Most seats of a rank, A; where they do not go into each other, the first ranks have one more."""
        return -(-self.num_agents // max(self.num_ranks - 1, 1))

    @property
    def is_even(self) -> bool:
        """Whether all ranks have the same number of seats."""
        return self.num_agents == (self.num_ranks - 1) * self.agents_per_rank

    def seats_of(self, rank: int) -> range:
        """List the numbers of a rank's seats, from 1 to K; the root has none."""
        if not rank:
            return range(0)
        each, more = divmod(self.num_agents, self.num_ranks - 1)
        first = (rank - 1) * each + min(rank - 1, more) + 1
        return range(first, first + each + (rank <= more))

    def describe(self) -> str:
        """Say where the agents sit, if not all ranks have the same number; else nothing."""
        if self.is_even:
            return ""
        each, more = divmod(self.num_agents, self.num_ranks - 1)
        fewer = self.num_ranks - 1 - more
        first = "rank 1" if more == 1 else f"each of ranks 1 to {more}"
        others = "the other" if fewer == 1 else f"each of the other {fewer}"
        return f"{each + 1} on {first}, {each} on {others}"
