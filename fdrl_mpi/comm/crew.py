"""This rank's place among ranks that may be lost, and the worlds it works in one after another."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from mpi4py import MPI

from fdrl_mpi.comm.membership import Change, Minority
from fdrl_mpi.comm.post import GOODBYE, JOIN, LAST_WORDS, MIRROR, Letter, Lost, Post
from fdrl_mpi.comm.watched import CONTEXTS, WatchedComm
from fdrl_mpi.comm.world import World
from fdrl_mpi.process import RESUMABLE
from fdrl_mpi.topology.view import View, first_view

__all__ = ["Crew", "Lost", "Minority"]

PAUSE_S = 1e-3
MOST_LAST_WORDS = 500
ROOT_EVERY_S = 0.5
"""How often a spare looks after the root, which is believed to be stopped if it is so twice."""


class Crew:
    """The ranks of a run as this one knows them.

    Parameters
    ----------
    comm : MPI.Comm
        All ranks of the job, all alive; collective.
    num_spares : int
        The last ranks, which stand by.
    agents_per_rank : int
    silence_s : float
        A rank that does not answer an exchange for so long is lost.
    patience_s : float
        How long a rank may take to answer a call for a new view: as long as an agent may train.
    max_misses : int
        A rank that was given up alive so often may not return.

    Attributes
    ----------
    post : Post
    num_agents : int
        K of the run, whoever is left.
    everyone : WatchedComm
        All members of the view, spares too.
    """

    def __init__(
        self,
        comm: MPI.Comm,
        num_spares: int,
        agents_per_rank: int,
        silence_s: float,
        patience_s: float,
        max_misses: int,
    ) -> None:
        self.post = Post(comm, silence_s)
        self._views = [first_view(self.post.size, num_spares, agents_per_rank)]
        self.num_agents = len(self.view.agents)
        self._agents_per_rank, self._silence_s, self._patience_s = agents_per_rank, silence_s, patience_s
        self._guests: set[int] = set()
        self._max_misses, self._misses = max_misses, Counter[int]()
        self.everyone = self._gathering()

    @property
    def view(self) -> View:
        """The newest view that this rank knows."""
        return self._views[-1]

    @property
    def rank(self) -> int:
        """This rank's number in the job, which stays."""
        return self.post.rank

    @property
    def is_spare(self) -> bool:
        """Whether this rank stands by."""
        return self.rank in self.view.spares

    @property
    def is_mirror(self) -> bool:
        """Whether this rank keeps a copy of the root's state."""
        return self.rank == self.view.mirror

    @property
    def job(self) -> str:
        """A name of the job that no other one has."""
        return self.post.job

    def world(self) -> World:
        """Make the world of root and agents; they all call it."""
        view = self.view
        comm = WatchedComm(self.post, view.ranks, view.number, self._silence_s)
        return World(comm, self._agents_per_rank, agents=view.agents, num_enrolled=self.num_agents)

    def hosts(self) -> list[str]:
        """List the host of each agent at the start, in the order of ids."""
        first = first_view(self.post.size, self.post.size - 1 - self._num_hosts(), self._agents_per_rank)
        return [self.post.hosts[rank] for rank in first.ranks[1:] for _ in range(self._agents_per_rank)]

    def change(self, lost: Lost, round: int, hosted: Sequence[int]) -> View:
        """Agree on a new view, and meet all its members.

        Parameters
        ----------
        round : int
            The newest model this rank has.
        hosted : sequence of int
            Ids of the agents whose learners are here.

        Raises
        ------
        Minority
            If this rank cannot go on.
        """
        suspects = lost.suspects
        while True:
            self.post.give_up_open()
            old = self.view
            change = Change(
                self.post, self._views, round, hosted, self.num_agents, suspects, self._patience_s,
                self.post.clock.now_s, self._guests,
            )  # fmt: skip
            try:
                while (view := change.step()) is None:
                    time.sleep(PAUSE_S)
            except Minority:
                self._clear_away(old.members)
                raise
            self._misses.update(set(old.members) - set(view.members) - self.post.dead)
            self._views.append(view)
            self._guests.clear()
            if old.root not in view.members:
                self.post.end(old.root)  # a stopped root that goes on would write to the files of the new one
            self.everyone = self._gathering()
            try:
                self.everyone.Barrier()
            except Lost as again:
                suspects = again.suspects
                continue
            self._views = [view]
            self.post.drop(view.number)
            if not view.agents:
                raise Minority("no agent is left")
            return view

    def check_guests(self) -> None:
        """Let in who has come back; the root calls it between rounds.

        Raises
        ------
        Lost
            If there is somebody, so that a new view is to be made.
        """
        while letter := self.post.take(JOIN):
            if self._misses[letter.sender] >= self._max_misses:
                self.post.send(Letter(GOODBYE, self.view.number, {"status": 0}), [letter.sender])
            elif letter.sender not in self.view.members:
                self._guests.add(letter.sender)
        if self._guests:
            raise Lost(f"rank {', '.join(map(str, sorted(self._guests)))} comes back")

    def stand_by(self, keep: Callable[[Any], None], keep_letter: Callable[[Letter], None]) -> int:
        """Wait for a part, or for the end of the run; return the exit status of the run.

        Parameters
        ----------
        keep, keep_letter : callable
            Take what the root mirrors.

        Raises
        ------
        Lost
            If the view is to change.
        """
        clock = self.post.clock
        looked_s = clock.now_s()
        while True:
            while (letter := self.post.take(MIRROR, GOODBYE)) is not None:
                if letter.kind == GOODBYE and letter.number < self.view.number:
                    continue  # of one that had lost its majority
                if letter.kind == GOODBYE:
                    return int(letter.body.get("status", RESUMABLE))
                keep_letter(letter)
            self.everyone.check_letters()
            while (boxed := self.everyone.poll_object(0)) is not None:
                keep(boxed[0])
            if clock.now_s() - looked_s > ROOT_EVERY_S:
                looked_s = clock.now_s()
                if self.post.is_halted(self.view.root):
                    raise Lost(
                        f"rank {self.view.root}, the root, stopped, gone or out of reach", {self.view.root}
                    )
            time.sleep(10 * PAUSE_S)

    def dismiss(self, status: int) -> None:
        """Tell all that stand by or were left out that the run is over; the root calls it."""
        others = set(range(self.post.size)) - set(self.view.ranks)
        self.post.send(Letter(GOODBYE, self.view.number, {"status": status}), others)
        for rank in others:
            if self.post.is_stopped(rank):
                self.post.end(rank)
        self._clear_away(others)

    def say_last(self, why: str) -> int | None:
        """Tell all others why this rank is about to end; whether they hear it is not waited for.

        Returns
        -------
        int or None
            A rank that has said the same before, or a lower one that says it at the same time. Of those that
            say the same, there is always one that gets None.
        """
        why = why[:MOST_LAST_WORDS]
        before, at_once = set[int](), set[int]()
        with suppress(Exception):  # what counts is what has happened before
            before = self._who_says(why)
            body = {"why": why, "is_echo": bool(before)}
            self.post.send(Letter(LAST_WORDS, self.view.number, body), range(self.post.size))
            at_once = {rank for rank in self._who_says(why) if rank < self.rank}
        return min(before or at_once, default=None)

    def _who_says(self, why: str) -> set[int]:
        """Listen for a moment; list the ranks whose last words these are, and are no echo of another's."""
        for _ in range(20):
            self.post.collect()
            time.sleep(PAUSE_S)
        said = self.post.last_words.items()
        return {rank for rank, words in said if words == why} - self.post.echoes

    def last_words_of(self, ranks: Iterable[int]) -> list[str]:
        """List what ranks that have failed said last, each with the ranks that said it."""
        speakers: dict[str, list[int]] = {}
        for rank in ranks:
            if rank in self.post.last_words:
                speakers.setdefault(self.post.last_words[rank], []).append(rank)
        return [f"rank {', '.join(map(str, who))}: {words}" for words, who in speakers.items()]

    def close(self) -> None:
        """Leave the others: MPI is about to end."""
        self.post.close()

    def _clear_away(self, ranks: Iterable[int]) -> None:
        """Remove what those of some ranks that are gone have left in shared memory."""
        for rank in ranks:
            if self.post.is_gone(rank):
                self.post.clear_away(rank)

    def _gathering(self) -> WatchedComm:
        view = self.view
        if self.rank not in view.members:
            return self.everyone
        return WatchedComm(self.post, view.members, view.number, self._silence_s, CONTEXTS - 1)

    def _num_hosts(self) -> int:
        return self.num_agents // self._agents_per_rank
