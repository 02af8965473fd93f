"""Messages between ranks that may die or stop at any moment."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpi4py import MPI

from fdrl_mpi.comm.leftovers import clear_away
from fdrl_mpi.comm.pulse import Pulse, is_over
from fdrl_mpi.comm.waiting_clock import WaitingClock

ALARM, CALL, VOTE, VIEW, JOIN = "alarm", "call", "vote", "view", "join"
MIRROR, GOODBYE, LAST_WORDS = "mirror", "goodbye", "last words"
"""Kinds of letters. The first five change the view, see `membership`; the root's state goes to its mirror;
a run that is over says so to those that stand by; a rank that fails says why."""

LOOK_EVERY_S = 0.2
"""How often a rank that waits asks the operating system about processes of its host."""
STOPPED_S = 0.1
"""How long a process has to be seen stopped: if a whole job is suspended, one is stopped before another."""
PULSE_SHARE = 0.5
"""How long a rank of another host may leave a question open, of how long a wait may last: whoever is gone is
found before those are accused that wait for it."""


class Lost(Exception):  # noqa: N818 (no error: what a rank does next is to agree on a new view)
    """The ranks that work together have to change.

    Attributes
    ----------
    suspects : frozenset of int
        Ranks of the job that are dead, stopped or silent; empty where another rank has given the alarm.
    """

    def __init__(self, reason: str, suspects: Iterable[int] = ()) -> None:
        super().__init__(reason)
        self.suspects = frozenset(suspects)


@dataclass(frozen=True)
class Letter:
    """A short message that does not belong to a round.

    Attributes
    ----------
    kind : str
    number : int
        Of the view it is about.
    body : dict of JSON values
    sender : int
        Rank in the job.
    """

    kind: str
    number: int
    body: dict[str, Any] = field(default_factory=dict)
    sender: int = -1


class Post:
    """Letters, and what is known of the processes of the job.

    Works on its own communicators, which are never revoked: ranks that live can always talk, whoever died.

    Parameters
    ----------
    comm : MPI.Comm
        All ranks of the job, all alive; collective.
    silence_s : float
        How long a wait may last; see `PULSE_SHARE`.

    Attributes
    ----------
    data : MPI.Comm
        For messages of rounds.
    rank, size : int
        Of the job.
    dead : set of int
        Ranks known to be dead.
    hosts : list of str
    letters : list of Letter
        What has arrived and was not taken.
    open : list of WatchedRequest
        Of this view; some may be done.
    last_words : dict of str by int
        Why ranks have ended, those that could say so.
    echoes : set of int
        Ranks that said only what they had heard from another.
    on_message : callable
        Called after each message of a round that this rank has sent or received.
    clock : WaitingClock
        Read whenever letters are collected, and so at every turn of every wait.
    """

    def __init__(self, comm: MPI.Comm, silence_s: float) -> None:
        self.data, self._control = comm.Dup(), comm.Dup()
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        own = (MPI.Get_processor_name(), os.getpid(), _started(os.getpid()))
        self._processes: list[tuple[str, int, str]] = comm.allgather(own)
        self.hosts = [host for host, _, _ in self._processes]
        self._pulse = Pulse(comm, PULSE_SHARE * silence_s) if len(set(self.hosts)) > 1 else None
        self.dead: set[int] = set()
        self.letters: list[Letter] = []
        self.last_words: dict[int, str] = {}
        self.echoes: set[int] = set()
        self.open: list[Any] = []
        self.on_message: Callable[[], None] = lambda: None
        self._segment = _own_segment(self.rank)
        self.clock = WaitingClock()
        self._stopped_since_s: dict[int, float] = {}
        self._busy_looks: Counter[int] = Counter()
        self._leaving: list[tuple[MPI.Request, bytes]] = []
        self._arriving: list[tuple[MPI.Request, bytearray, int]] = []
        self._buried: list[tuple[MPI.Request, Any]] = []

    @property
    def job(self) -> str:
        """A name of the job that no other one has: its first process."""
        host, pid, started = self._processes[0]
        return f"process {pid} on {host}, begun at tick {started}"

    def send(self, letter: Letter, to: Iterable[int]) -> None:
        """Send a letter; who is dead gets none, and nobody waits for those who do not read."""
        text = json.dumps([letter.kind, letter.number, letter.body]).encode()
        for rank in to:
            if rank not in self.dead and rank != self.rank:
                try:
                    self._leaving.append((self._control.Isend(text, rank), text))
                except MPI.Exception:
                    self.dead.add(rank)
        self._leaving = [(request, kept) for request, kept in self._leaving if not is_over(request)]

    def collect(self) -> list[Letter]:
        """Take in what has arrived; return all letters that wait to be taken."""
        status = MPI.Status()
        self.clock.now_s()
        while True:
            try:
                message = self._control.Improbe(MPI.ANY_SOURCE, MPI.ANY_TAG, status)
            except MPI.Exception:  # somebody has died that had not been acknowledged
                self._acknowledge()
                continue
            if message is None:
                break
            text = bytearray(status.Get_count(MPI.BYTE))
            self._arriving.append((message.Irecv(text), text, status.Get_source()))
        self._read()
        self._buried = [(request, kept) for request, kept in self._buried if not is_over(request)]
        return self.letters

    def _read(self) -> None:
        """Read the letters that have come whole, those of one sender in their order."""
        waiting, unread = [], set[int]()
        for request, text, sender in self._arriving:
            try:
                is_whole = sender not in unread and request.Test()
            except MPI.Exception:  # the sender has died in the middle of it
                self.dead.add(sender)
                continue
            if is_whole:
                kind, number, body = json.loads(text)
                if kind == LAST_WORDS:
                    self.last_words[sender] = str(body["why"])
                    if body["is_echo"]:
                        self.echoes.add(sender)
                else:
                    self.letters.append(Letter(kind, number, body, sender))
            else:
                unread.add(sender)
                waiting.append((request, text, sender))
        self._arriving = waiting

    def drop(self, number: int) -> None:
        """Forget letters about views before this one."""
        self.letters = [letter for letter in self.letters if letter.number >= number or letter.kind == MIRROR]

    def take(self, *kinds: str) -> Letter | None:
        """Remove and return the first letter of these kinds; None if there is none."""
        found = next((letter for letter in self.collect() if letter.kind in kinds), None)
        if found is not None:
            self.letters.remove(found)
        return found

    def is_halted(self, rank: int) -> bool:
        """Whether a process is dead, stopped, or on another host and silent; False where nobody can know.

        One that is stopped is believed to be once it was seen so for `STOPPED_S`: call it again.
        """
        if not self._is_near(rank):
            return rank in self.dead or (self._pulse is not None and self._pulse.is_silent(rank))
        if not self.is_stopped(rank):
            self._stopped_since_s.pop(rank, None)
            return self.is_gone(rank)
        now_s = self.clock.now_s()
        return now_s - self._stopped_since_s.setdefault(rank, now_s) >= STOPPED_S

    def is_stopped(self, rank: int) -> bool:
        """Whether a process of this host is stopped at this moment."""
        return self._is_near(rank) and _stat(self._processes[rank][1])[:1] in (["T"], ["t"])

    def is_gone(self, rank: int) -> bool:
        """Whether a process is known to have ended."""
        _, pid, started = self._processes[rank]
        return rank in self.dead or (self._is_near(rank) and _started(pid) != started)

    def _is_near(self, rank: int) -> bool:
        """Whether it can be known how the process of a rank fares: on this host."""
        host, _, started = self._processes[rank]
        return host == self.hosts[self.rank] and bool(started)

    def effort(self, rank: int) -> int:
        """Give a number that changes from look to look while a process works.

        On this host that is while it uses the processor, or waits for it or for a disk; on another one while
        it answers questions.
        """
        if not self._is_near(rank):
            return 0 if self._pulse is None else self._pulse.num_answers(rank)
        pid = self._processes[rank][1]
        fields = _stat(pid, f"task/{pid}/")  # of its main thread: another one answers questions
        if not fields:
            return 0
        self._busy_looks[rank] += fields[0] in ("R", "D")
        return int(fields[11]) + int(fields[12]) + self._busy_looks[rank]

    def end(self, rank: int) -> None:
        """Kill a process of this host, so that it can never write where another one has taken over."""
        host, pid, started = self._processes[rank]
        if host == self.hosts[self.rank] and rank != self.rank and _started(pid) == started:
            with suppress(ProcessLookupError):
                os.kill(pid, 9)
            self.dead.add(rank)

    def clear_away(self, rank: int) -> None:
        """Remove what a dead process of this host has left in shared memory: MPI does not."""
        if not self._is_near(rank) or rank == self.rank:
            return
        clear_away(self._processes[rank][1])
        if self._segment:
            with suppress(OSError):
                Path(f"{self._segment}.{rank}").unlink(missing_ok=True)

    def give_up_open(self) -> None:
        """Wait no longer for any message of this view; no late one may find its buffer gone."""
        for request in self.open:
            request.give_up()
        self.open.clear()

    def bury(self, request: MPI.Request, buffer: Any) -> None:
        """Keep a buffer until no late message can reach it any more."""
        self._buried.append((request, buffer))

    def close(self) -> None:
        """Give no sign of life any more: MPI is about to end."""
        if self._pulse is not None:
            self._pulse.close()

    def _acknowledge(self) -> None:
        self._control.Ack_failed()
        group, world = self._control.Get_failed(), self._control.Get_group()
        ranks = MPI.Group.Translate_ranks(group, list(range(group.Get_size())), world)
        self.dead.update(ranks)


def _stat(pid: int, thread: str = "") -> list[str]:
    try:
        return Path(f"/proc/{pid}/{thread}stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _own_segment(rank: int) -> str:
    """Find the file by which MPI shares memory with this rank, without the rank; empty if there is none."""
    try:
        paths = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
    except OSError:
        return ""
    ends = f".{rank}"
    return next((p.removesuffix(ends) for p in paths if "/sm_segment." in p and p.endswith(ends)), "")


def _started(pid: int) -> str:
    """Read when a process began, in ticks since boot: tells it from later ones of its number.

    Empty if it has ended.
    """
    fields = _stat(pid)
    return fields[19] if fields and fields[0] not in ("Z", "X") else ""
