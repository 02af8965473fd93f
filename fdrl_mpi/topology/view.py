"""Who works together, and in which part: decided anew when a rank is lost or returns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class View:
    """The ranks of the job that are in the run.

    Attributes
    ----------
    number : int
        Grows with every change.
    ranks : tuple of int
        Ranks of the job: the root, then those that host agents.
    agents : tuple of int
        Ids in the order of seats, as many on each of ``ranks[1:]``.
    spares : tuple of int
        Ranks of the job that stand by.
    """

    number: int
    ranks: tuple[int, ...]
    agents: tuple[int, ...]
    spares: tuple[int, ...] = ()

    @property
    def root(self) -> int:
        """The rank that aggregates."""
        return self.ranks[0]

    @property
    def members(self) -> tuple[int, ...]:
        """All ranks that have a part."""
        return self.ranks + self.spares

    @property
    def mirror(self) -> int | None:
        """The rank that holds a copy of the root's state: the first spare, else the first with agents."""
        others = self.spares + self.ranks[1:]
        return others[0] if others else None

    @property
    def succession(self) -> tuple[int, ...]:
        """Who decides on the next view: the root, or the first after it that lives."""
        return (self.root, *self.spares, *self.ranks[1:])

    def agents_of(self, rank: int) -> tuple[int, ...]:
        """List the ids of a rank's agents."""
        hosts = self.ranks[1:]
        if rank not in hosts:
            return ()
        number, share = hosts.index(rank), len(self.agents) // len(hosts)
        return self.agents[number * share : (number + 1) * share]

    def has_majority(self, present: Sequence[int]) -> bool:
        """Whether more than half of the members are present: at most one such group can exist."""
        return 2 * len(set(present) & set(self.members)) > len(self.members)

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` makes the view of again."""
        return {"ranks": self.ranks, "agents": self.agents, "spares": self.spares}

    @classmethod
    def from_json(cls, number: int, body: Mapping[str, Any]) -> "View":
        """Make a view of what `to_json` returned."""
        return cls(number, *(tuple(body[name]) for name in ("ranks", "agents", "spares")))


def first_view(num_ranks: int, num_spares: int, agents_per_rank: int) -> View:
    """Give every rank its part at the start: root, agents, and the last ranks as spares."""
    num_hosts = num_ranks - 1 - num_spares
    ids = range(1, num_hosts * agents_per_rank + 1)
    hosts = range(1, num_hosts + 1)
    return View(0, (0, *hosts), tuple(ids), tuple(range(num_hosts + 1, num_ranks)))


def next_view(
    old: View, number: int, rounds: Mapping[int, int], hosted: Mapping[int, Sequence[int]], num_agents: int
) -> View:
    """Give the ranks that are present their parts.

    The root stays if it is present; else its mirror takes over, else another spare, else the rank with agents
    whose model is newest, and its agents become vacant. Vacant agents go to spares, but the first spare stays
    the mirror.

    Parameters
    ----------
    rounds : mapping
        Newest model of each rank that is present.
    hosted : mapping
        Ids of the agents of each rank that is present.
    num_agents : int
        K, all ids of the run.
    """
    root = _root(old, rounds)
    hosts: dict[int, tuple[int, ...]] = {}
    taken: set[int] = set()
    for rank in sorted(hosted, key=lambda rank: (rank not in old.members, rank)):
        if rank != root and hosted[rank] and not taken & set(hosted[rank]):
            hosts[rank] = tuple(hosted[rank])
            taken |= set(hosted[rank])
    spares = [rank for rank in old.spares if rank in rounds and rank != root]
    spares += sorted(set(rounds) - {root} - set(hosts) - set(spares))
    share = len(old.agents) // max(len(old.ranks) - 1, 1)
    vacant = [agent for agent in range(1, num_agents + 1) if agent not in taken]
    groups = [tuple(vacant[start : start + share]) for start in range(0, len(vacant), share)]
    first = 1 if hosts else 0  # without a spare to mirror the root, rather than without an agent
    for spare, group in zip(spares[first:], groups, strict=False):
        hosts[spare] = group
    ranks = sorted(hosts, key=lambda rank: hosts[rank])
    agents = tuple(agent for rank in ranks for agent in hosts[rank])
    return View(number, (root, *ranks), agents, tuple(rank for rank in spares if rank not in hosts))


def _root(old: View, rounds: Mapping[int, int]) -> int:
    candidates = [rank for rank in (old.root, *old.spares) if rank in rounds]
    if candidates:
        return candidates[0]
    return max(rounds, key=lambda rank: (rounds[rank], rank in old.members, -rank))
