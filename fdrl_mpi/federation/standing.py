"""What the members of a new view bring, and what they make of it: where the run goes on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

NOTHING = -1
"""Round of a rank without any model."""


@dataclass(frozen=True)
class Standing:
    """What a rank brings into a new view.

    Attributes
    ----------
    round : int
        Its newest model; `NOTHING` if it has none.
    view : int
        Number of the view in which that model was made: of two models of one round the later one counts.
    digest : str
        Of the model.
    is_revealed : bool
        Whether it has shown masks for the round after it: the round must not be done again.
    counted : dict
        Weights of the agents in that round, by id.
    replaced : dict
        Agents that are new here, by id: the round of their saved state.
    failures : list
        That it has lived through in the run; none while it stood by.
    """

    round: int
    view: int
    digest: str
    is_revealed: bool
    counted: dict[int, float]
    replaced: dict[int, int]
    failures: list[Any]


@dataclass(frozen=True)
class Decision:
    """Where all members go on, the same on each of them.

    Attributes
    ----------
    holder : int
        A rank of the world that has the newest model.
    made_round : int
        In which that model was made.
    round : int
        After which the run goes on: that one, or the next if its exchange is given up.
    digest : str
        Of the model.
    is_wanting : bool
        Whether some have another model or none.
    counted : dict
        Weights of the agents in the round it was made in, by id; empty if nobody knows.
    """

    holder: int
    made_round: int
    round: int
    digest: str
    is_wanting: bool
    counted: dict[int, float]

    @property
    def is_given_up(self) -> bool:
        """Whether the round that was under way must not be done again: it leaves the last model."""
        return self.round > self.made_round


def decide(standings: Sequence[Standing]) -> Decision:
    """Find the newest model, of the first rank that has it."""
    holder = max(range(len(standings)), key=lambda rank: (standings[rank].round, standings[rank].view, -rank))
    newest = standings[holder]
    same = [one for one in standings if one.digest == newest.digest and one.round == newest.round]
    is_given_up = any(one.is_revealed for one in same)
    return Decision(
        holder,
        newest.round,
        newest.round + is_given_up,
        newest.digest,
        len(same) < len(standings),
        next((one.counted for one in same if one.counted), {}),
    )
