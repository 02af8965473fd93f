"""How ranks agree on who is left, whoever dies or falls silent meanwhile.

The first living rank of the view's line of succession calls; every rank answers at most one caller for each
number; a caller that has heard more than half of the members makes the next view and tells all. Two views of
one number cannot come to be, because two majorities would share a voter. Whoever has answered a call takes no
part in an older view any more, so that nothing can be finished there.

A view is established once all its members have met in it. Until then the one before counts as well: a
caller needs more than half of every view that a voter may have begun with. Else those that already know of a
new view, and those that do not, could both find a majority.

References
----------
The shape is that of view changes in Oki and Liskov, "Viewstamped Replication", PODC 1988.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fdrl_mpi.comm.post import ALARM, CALL, GOODBYE, JOIN, VIEW, VOTE, Letter
from fdrl_mpi.topology.view import View, next_view

GRACE_S = 2.0
"""How long a caller that has heard all it expects, and lacks a majority, waits for more."""
MOST_CALLS = 4
"""Calls without a majority after which a rank gives up: two that call at once may share the votes. One is
enough where nobody is left who could have voted for another."""
LOOK_EVERY_S = 0.05
"""How often a rank looks who is there."""
ASK_EVERY_S = 0.5
"""How often a rank that was left out asks to be let in again."""


class Minority(Exception):  # noqa: N818 (a way for a run to end on this rank)
    """Too few ranks are left here to go on: the others may be going on without them."""


@dataclass(frozen=True)
class Vote:
    """What a rank tells a caller.

    Attributes
    ----------
    round : int
        Its newest model.
    hosted : sequence of int
        Ids of the agents whose learners it has.
    views : tuple of View
        The last established one, and those begun since.
    """

    round: int
    hosted: Sequence[int]
    views: tuple[View, ...]


class Letters(Protocol):
    """What is needed of the `Post`."""

    rank: int
    size: int
    dead: set[int]

    def send(self, letter: Letter, to: Iterable[int]) -> None: ...
    def take(self, *kinds: str) -> Letter | None: ...
    def is_halted(self, rank: int) -> bool: ...


class Change:
    """One rank's way from a view that is broken, or that it is not in, to the next one.

    Parameters
    ----------
    letters : Letters
    views : sequence of View
        The last one that this rank knows to be established, and those it has been told of since.
    round : int
        The newest model this rank has.
    hosted : sequence of int
        Ids of the agents whose learners are here.
    num_agents : int
        K of the run.
    suspects : iterable of int
        Ranks that this rank has given up.
    patience_s : float
        How long a rank may take to answer, and a caller to decide.
    now : callable
        Reads a clock, in seconds.
    guests : iterable of int
        Ranks outside of the view that have asked to be let in; a caller waits for their answers too.
    """

    def __init__(
        self,
        letters: Letters,
        views: Sequence[View],
        round: int,
        hosted: Sequence[int],
        num_agents: int,
        suspects: Iterable[int],
        patience_s: float,
        now: Callable[[], float],
        guests: Iterable[int] = (),
    ) -> None:
        self._letters, self._round, self._hosted = letters, round, list(hosted)
        self._views, view = list(views), views[-1]
        self._view = view
        self._num_agents, self._patience_s, self._now = num_agents, patience_s, now
        self._suspects = set(suspects) - {letters.rank}
        self._guests = set(guests)
        self._promised = view.number
        self._called: dict[int, Vote] | None = None
        self._since_s = now()
        self._asked_s, self._rests_until_s, self._num_calls = float("-inf"), float("-inf"), 0
        self._chief = -1
        self._halted, self._looked_s = set[int](), float("-inf")
        if letters.rank in view.members:
            letters.send(Letter(ALARM, view.number, {"suspects": sorted(self._suspects)}), view.members)

    def step(self) -> View | None:
        """Go on a little; return the next view once this rank has a part in it.

        Raises
        ------
        Minority
            If this rank cannot be part of one.
        """
        self._look_around()
        while letter := self._letters.take(ALARM, CALL, VOTE, VIEW, JOIN, GOODBYE):
            if view := self._read(letter):
                return view  # letters behind it belong to what comes next
        if self._letters.rank not in self._view.members:
            self._ask()
            return None
        if self._called is not None:
            return self._count()
        self._watch_chief()
        return None

    def _look_around(self) -> None:
        """Find out who is halted, of all at once: of ranks on other hosts that takes its time."""
        if (now := self._now()) - self._looked_s >= LOOK_EVERY_S:
            self._looked_s = now
            others = {*self._view.members, *self._guests} - {self._letters.rank}
            self._halted = {rank for rank in others if self._letters.is_halted(rank)}

    def _read(self, letter: Letter) -> View | None:
        if letter.kind == GOODBYE and letter.number >= self._promised:
            raise Minority("the run goes on, or has ended, without this rank")
        if letter.kind == ALARM and letter.number == self._view.number:
            self._suspects |= {*letter.body["suspects"]} - {self._letters.rank}
        elif letter.kind == CALL and letter.number > self._promised:
            self._vote(letter)
        elif letter.kind == VOTE and self._called is not None and letter.number == self._promised:
            views = tuple(View.from_json(*one) for one in letter.body["views"])
            self._called[letter.sender] = Vote(letter.body["round"], letter.body["agents"], views)
            self._suspects.discard(letter.sender)
        elif letter.kind == VIEW and letter.number >= self._promised:
            view = View.from_json(letter.number, letter.body)
            if self._letters.rank in view.members:
                return view
            self._view, self._promised, self._called = view, letter.number, None
        return None

    def _vote(self, call: Letter) -> None:
        self._promised, self._called = call.number, None
        self._chief, self._since_s = call.sender, self._now()
        self._suspects.discard(call.sender)
        views = [(view.number, view.to_json()) for view in self._views]
        body = {"round": self._round, "agents": self._hosted, "views": views}
        self._letters.send(Letter(VOTE, call.number, body), [call.sender])

    def _ask(self) -> None:
        """Ask to be let in again; end if nobody is there to answer."""
        now, others = self._now(), self._view.members
        if all(rank in self._halted or rank in self._letters.dead for rank in others):
            raise Minority("no rank of the run is left, or within reach")
        if now - self._asked_s >= ASK_EVERY_S:
            self._asked_s = now
            self._letters.send(Letter(JOIN, self._view.number), range(self._letters.size))

    def _watch_chief(self) -> None:
        """Wait for the rank that is to call or to decide; call, if it is this one."""
        rank, now = self._letters.rank, self._now()
        if now < self._rests_until_s:
            return
        if self._chief < 0 or self._is_lost(self._chief):
            chief = next(one for one in self._view.succession if one == rank or not self._is_lost(one))
            if chief != self._chief:
                self._chief, self._since_s = chief, now
        if self._chief == rank:
            self._call()
        elif now - self._since_s > 2 * self._patience_s:
            self._suspects.add(self._chief)

    def _is_lost(self, rank: int) -> bool:
        return rank in self._suspects or rank in self._letters.dead or rank in self._halted

    def _call(self) -> None:
        self._promised += 1
        self._num_calls += 1
        self._since_s = self._now()
        self._called = {self._letters.rank: Vote(self._round, self._hosted, tuple(self._views))}
        self._letters.send(Letter(CALL, self._promised), range(self._letters.size))

    def _rest(self) -> None:
        """Leave it to others to call for a while, the longer the later in line this rank is."""
        place = self._view.succession.index(self._letters.rank)
        self._called, self._chief = None, -1
        rest_s = min(self._patience_s, GRACE_S)
        self._rests_until_s = self._now() + rest_s * place / len(self._view.members)

    def _count(self) -> View | None:
        """Make the next view as soon as all that are expected have answered, or patience is at its end."""
        called, view = self._called, self._view
        assert called is not None
        waited_s = self._now() - self._since_s
        expected = {*view.members, *self._guests}
        missing = [rank for rank in expected if rank not in called and not self._is_lost(rank)]
        if missing and waited_s <= self._patience_s:
            return None
        if not _suffices(called):
            if waited_s <= min(self._patience_s, GRACE_S):
                return None
            if self._num_calls < MOST_CALLS and expected - called.keys() - self._halted - self._letters.dead:
                self._rest()
                return None
            self._letters.send(Letter(GOODBYE, self._promised), called)
            raise Minority(
                f"only {len(called)} of {len(view.members)} ranks are left here, and that is no majority"
            )
        newest = max((one for vote in called.values() for one in vote.views), key=lambda one: one.number)
        rounds = {rank: vote.round for rank, vote in called.items()}
        hosted = {rank: vote.hosted for rank, vote in called.items()}
        new = next_view(newest, self._promised, rounds, hosted, self._num_agents)
        self._letters.send(Letter(VIEW, new.number, new.to_json()), range(self._letters.size))
        return new


def _suffices(called: Mapping[int, Vote]) -> bool:
    """Whether those that have answered are more than half of every view in which somebody may be."""
    established = max(vote.views[0].number for vote in called.values())
    known = {view.number: view for vote in called.values() for view in vote.views}
    return all(view.has_majority(list(called)) for n, view in known.items() if n >= established)
