"""Training several agents of a rank at once, where their learners can."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from fdrl_mpi.arrays import FloatVector
from fdrl_mpi.federation.participant import Participant
from fdrl_mpi.rl.learner import Budget, TrainStats
from fdrl_mpi.rl.team import GroupedEnvironment, Member, Team

Squad: TypeAlias = tuple[int, ...]
"""Ids of agents that train at the same time."""

TEAMS_KEPT = 2
"""Teams of different sizes whose arrays are kept."""


class Together:
    """Makes squads of agents and trains each of them as one team.

    Nothing an agent owns is in here: a team takes the learners' states and gives them back.

    Parameters
    ----------
    make_team : callable
        Maps a number of members to a team of that size.
    make_environment : callable
        Maps the ids of a squad to the environments of all its agents.
    fewest, most : int
        Agents of a team; fewer train alone. Where a team draws as its members would alone, one agent is none.
    """

    def __init__(
        self,
        make_team: Callable[[int], Team],
        make_environment: Callable[[Squad], GroupedEnvironment],
        fewest: int,
        most: int,
    ) -> None:
        self._make_team, self._make_environment = make_team, make_environment
        self._fewest, self._most = fewest, most
        self._teams: dict[int, Team] = {}
        self._environments: dict[Squad, GroupedEnvironment] = {}

    def squads(self, participants: Mapping[int, Participant], budgets: Mapping[int, Budget]) -> list[Squad]:
        """Sort the agents that train in a round into squads whose members have the same to do."""
        alike: dict[tuple[int, float, int], list[int]] = {}
        for agent, budget in budgets.items():
            member: Member = participants[agent].learner  # type: ignore[assignment]
            alike.setdefault((budget.work, budget.lr, member.stage), []).append(agent)
        squads = [squad for agents in alike.values() for squad in _cut(agents, self._most)]
        self._environments = {
            squad: self._environments[squad] for squad in squads if squad in self._environments
        }
        return squads

    def train(
        self,
        squad: Squad,
        participants: Mapping[int, Participant],
        published: Mapping[int, FloatVector],
        budgets: Mapping[int, Budget],
    ) -> list[TrainStats]:
        """Let every agent of a squad learn from what was published, and write what travels into its row."""
        if len(squad) < self._fewest:
            return [participants[agent].train(published[agent], budgets[agent]) for agent in squad]
        for agent in squad:
            participants[agent].begin(published[agent])
        members: list[Member] = [participants[agent].learner for agent in squad]  # type: ignore[misc]
        with np.errstate(over="ignore", invalid="ignore"):  # what diverges is found and named afterwards
            team, environment = self._team(len(squad)), self._environment(squad)
            all_stats = team.train(members, [budgets[agent] for agent in squad], environment)
        for agent, stats in zip(squad, all_stats, strict=True):
            participants[agent].finish(published[agent], stats)
        return all_stats

    def _team(self, size: int) -> Team:
        if size not in self._teams:
            if len(self._teams) == TEAMS_KEPT:
                del self._teams[next(iter(self._teams))]
            self._teams[size] = self._make_team(size)
        return self._teams[size]

    def _environment(self, squad: Squad) -> GroupedEnvironment:
        if squad not in self._environments:
            self._environments[squad] = self._make_environment(squad)
        return self._environments[squad]


def _cut(agents: Sequence[int], size: int) -> list[Squad]:
    """Cut a row of agents into squads of at most `size`, of equal size where that is possible."""
    return [tuple(map(int, squad)) for squad in np.array_split(agents, -(-len(agents) // size))]
