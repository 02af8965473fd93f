"""A communicator none of whose waits is endless.

It has the methods of `MPI.Comm` that this program uses, made of messages between two ranks. A rank that waits
looks at the letters, and at the processes it waits for: a dead or stopped one, one that is silent for too
long, or the alarm of another rank ends the wait with `Lost`. MPI's own collective operations cannot do that:
they block inside the library until a stopped process goes on.
"""

# ruff: noqa: N802 (the names are those of MPI)

import pickle
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from mpi4py import MPI

from fdrl_mpi.comm.post import ALARM, CALL, LOOK_EVERY_S, VIEW, Lost, Post

SPINS = 200
"""Tests of a message before a waiting rank begins to sleep between them."""
LONGEST_PAUSE_S, LONGEST_PATIENT_PAUSE_S = 2e-4, 2e-3
MOST_OPEN = 1024
"""Requests that are kept before those that are done are forgotten."""
MOST_SILENCES = 10
"""After so many times the allowed silence a rank that works, but does not answer, is lost."""
RING_BYTES = 2**16
"""Sums of at least this size travel around a ring in parts; smaller ones up and down a binomial tree."""
OWN_TAGS = 256
"""Tags from here on are those of the methods below; user tags lie under it."""
BARRIER, BCAST, REDUCE, GATHER, SCATTER, OBJECT, RING, ALL = range(OWN_TAGS, OWN_TAGS + 8)
TAGS_PER_CONTEXT, CONTEXTS, VIEWS = 512, 256, 16_384
"""All tags are under 2^31, MPI's bound here: nothing is under way any more from so many views ago."""


class WatchedRequest:
    """A message on its way.

    Attributes
    ----------
    comm : WatchedComm
    peer : int
        The other end, a rank of the job.
    was_done : bool
        Whether it was when it was last looked at.
    """

    def __init__(
        self, comm: "WatchedComm", request: MPI.Request, peer: int, buffer: Any, is_receive: bool
    ) -> None:
        self.comm, self.peer, self._is_receive = comm, peer, is_receive
        self._request, self._buffer = request, buffer
        self.was_done = False

    def is_done(self) -> bool:
        """Test it.

        Raises
        ------
        Lost
            If the other end is dead.
        """
        if not self.was_done:
            try:
                self.was_done = self._request.Test()
            except MPI.Exception as error:
                self.was_done = True
                self.comm.post.dead.add(self.peer)
                raise Lost(f"rank {self.peer} is dead ({error})", {self.peer}) from error
            if self.was_done:
                self._buffer = None
                if self._is_receive:
                    self.comm.post.on_message()
        return self.was_done

    def Wait(self) -> None:
        """Wait for it."""
        self.comm.wait([self])

    def give_up(self) -> None:
        """Wait no longer; the buffer is kept for as long as the message may still come."""
        if not self.was_done:
            self.was_done = True
            if self._is_receive:
                self._request.Cancel()
            self.comm.post.bury(self._request, self._buffer)


class WatchedComm:
    """Some ranks of the job in an order.

    Parameters
    ----------
    post : Post
    ranks : sequence of int
        Ranks of the job; position in it is the rank here.
    number : int
        Of the view: messages of other views are never taken for those of this one.
    silence_s : float
        A rank that does not answer for so long is taken for lost, unless it is seen to work: see `Vigil`.
    context : int
        Tells communicators of one view apart.
    """

    def __init__(
        self, post: Post, ranks: Sequence[int], number: int, silence_s: float, context: int = 0
    ) -> None:
        self.post, self.number, self._silence_s = post, number, silence_s
        self._ranks = list(ranks)
        self._rank, self._size = self._ranks.index(post.rank), len(self._ranks)
        self._context, self._num_contexts = context, context + 1
        self._first_tag = (number % VIEWS * CONTEXTS + context) * TAGS_PER_CONTEXT

    def Get_rank(self) -> int:
        return self._rank

    def Get_size(self) -> int:
        return self._size

    def Isend(self, buffer: Any, dest: int, tag: int = 0) -> WatchedRequest:
        """Send; a dead receiver shows when the request is waited for."""
        request = self.post.data.Isend(buffer, self._ranks[dest], self._first_tag + tag)
        self.post.on_message()
        return self._watch(WatchedRequest(self, request, self._ranks[dest], buffer, is_receive=False))

    def Irecv(self, buffer: Any, source: int, tag: int = 0) -> WatchedRequest:
        request = self.post.data.Irecv(buffer, self._ranks[source], self._first_tag + tag)
        return self._watch(WatchedRequest(self, request, self._ranks[source], buffer, is_receive=True))

    def _watch(self, request: WatchedRequest) -> WatchedRequest:
        """Keep a request, and with it its buffer, for as long as a message may use it."""
        open_ones = self.post.open
        open_ones.append(request)
        if len(open_ones) > MOST_OPEN:
            open_ones[:] = [one for one in open_ones if not one.was_done]
        return request

    def Send(self, buffer: Any, dest: int, tag: int = 0) -> None:
        self.Isend(buffer, dest, tag).Wait()

    def Recv(self, buffer: Any, source: int, tag: int = 0) -> None:
        self.Irecv(buffer, source, tag).Wait()

    def wait(
        self,
        requests: Sequence[WatchedRequest],
        meanwhile: Callable[[], bool] | None = None,
        limit_s: float | None = None,
    ) -> None:
        """Wait for all messages.

        Parameters
        ----------
        meanwhile : callable, optional
            Does a slice of other work, and says whether there was any. Who has it sleeps longer.
        limit_s : float, optional
            How long the other ends may be silent, if not `silence_s`. It counts once half of them have come.

        Raises
        ------
        Lost
        """
        pending, vigil = list(requests), Vigil(self, self._silence_s, meanwhile, limit_s or None)
        while pending := [request for request in pending if not request.is_done()]:
            is_due = not limit_s or 2 * len(pending) <= len(requests)
            vigil.go_on([request.peer for request in pending], is_due)

    def wait_some(self, requests: Sequence[WatchedRequest]) -> list[int] | None:
        """Wait for at least one message; return the numbers of those that came, None if none was due."""
        before = {number for number, request in enumerate(requests) if request.was_done}
        if len(before) == len(requests):
            return None
        vigil = Vigil(self, self._silence_s)
        while True:
            done = [n for n, request in enumerate(requests) if n not in before and request.is_done()]
            if done:
                return done
            vigil.go_on([request.peer for n, request in enumerate(requests) if n not in before])

    def check_letters(self) -> None:
        """Look whether another rank wants a new view.

        Raises
        ------
        Lost
        """
        for letter in self.post.collect():
            newer = letter.kind in (CALL, VIEW) and letter.number > self.number
            if newer or (letter.kind == ALARM and letter.number == self.number):
                raise Lost(f"rank {letter.sender}: {letter.kind}")

    def Barrier(self) -> None:
        nothing = np.zeros(1, np.int8)
        self._reduce(nothing, np.add, BARRIER)
        self._hand_down(nothing, BARRIER)

    def Bcast(self, array: Any) -> None:
        """Give rank 0's values to every rank, in place."""
        self._hand_down(array, BCAST)

    def Allreduce(self, sendbuf: Any, array: Any, op: MPI.Op = MPI.SUM) -> None:
        """Combine the arrays of all ranks, in place; the same bits on every rank."""
        assert sendbuf is MPI.IN_PLACE
        assert op in (MPI.SUM, MPI.MIN)
        combine = np.add if op == MPI.SUM else np.minimum
        if array.nbytes >= RING_BYTES and array.ndim == 1 and self._size > 2:
            self._reduce_around(array, combine)
        else:
            self._reduce(array, combine, REDUCE)
            self._hand_down(array, REDUCE)

    def Gather(self, sendbuf: Any, recvbuf: Any) -> None:
        """Collect equal shares on rank 0, whose own lies in its place."""
        if self._rank:
            self.Send(sendbuf, 0, GATHER)
            return
        shares = recvbuf.reshape(self._size, -1)
        self.wait([self.Irecv(shares[rank], rank, GATHER) for rank in range(1, self._size)])

    def Scatter(self, sendbuf: Any, recvbuf: Any) -> None:
        """Give each rank its share of rank 0's array; rank 0 keeps its own where it lies."""
        if self._rank:
            self.Recv(recvbuf, 0, SCATTER)
            return
        shares = sendbuf.reshape(self._size, -1)
        self.wait([self.Isend(shares[rank], rank, SCATTER) for rank in range(1, self._size)])

    def Alltoallv(self, sent: Sequence[Any], received: Sequence[Any]) -> None:
        """Exchange parts of flat arrays: [array, counts, starts, type] as in MPI."""
        self._exchange(_parts(sent), _parts(received))

    def Allgatherv(self, sendbuf: Any, received: Sequence[Any]) -> None:
        """Collect parts on all ranks, each rank's own lying in its place."""
        assert sendbuf is MPI.IN_PLACE
        parts = _parts(received)
        self._exchange([parts[self._rank]] * self._size, parts)

    def allgather(self, value: Any) -> list[Any]:
        """Collect a small Python object of each rank on every rank."""
        if self._rank:
            self.send_object(value, 0)
        else:
            values = [value] + [self.receive_object(rank) for rank in range(1, self._size)]
        return self.bcast(None if self._rank else values)  # type: ignore[no-any-return]

    def bcast(self, value: Any) -> Any:
        """Give rank 0's small Python object to every rank."""
        parent, children = self._binomial()
        if parent >= 0:
            value = self.receive_object(parent)
        for child in reversed(children):
            self.send_object(value, child)
        return value

    def Split(self, color: int, key: int = 0) -> "WatchedComm | None":
        """Make a communicator of the ranks with the same color; None where it is undefined."""
        chosen: list[tuple[int, int]] = self.allgather((color, key))
        context, self._num_contexts = self._num_contexts, self._num_contexts + 1
        assert context < CONTEXTS - 1, "tags would be those of another view"
        if color == MPI.UNDEFINED:
            return None
        alike = [rank for rank, (other, _) in enumerate(chosen) if other == color]
        alike.sort(key=lambda rank: (chosen[rank][1], rank))
        ranks = [self._ranks[rank] for rank in alike]
        return WatchedComm(self.post, ranks, self.number, self._silence_s, context)

    def Split_type(self, split_type: int) -> "WatchedComm":
        """Make a communicator of the ranks on this host."""
        assert split_type == MPI.COMM_TYPE_SHARED
        hosts = [self.post.hosts[rank] for rank in self._ranks]
        comm = self.Split(hosts.index(self.post.hosts[self.post.rank]), self._rank)
        assert comm is not None
        return comm

    def _binomial(self) -> tuple[int, list[int]]:
        """Return this rank's parent in a binomial tree, -1 on rank 0, and its children."""
        rank, children, bit = self._rank, [], 1
        while bit < self._size and not rank & bit:
            if rank + bit < self._size:
                children.append(rank + bit)
            bit <<= 1
        return (rank & (rank - 1) if rank else -1), children

    def _reduce(self, array: Any, combine: Callable[..., Any], tag: int) -> None:
        """Combine the arrays on rank 0, children in a fixed order."""
        parent, children = self._binomial()
        inbox = [np.empty_like(array) for _ in children]
        requests = [self.Irecv(into, child, tag) for into, child in zip(inbox, children, strict=True)]
        self.wait(requests)
        for received in inbox:
            combine(array, received, out=array)
        if parent >= 0:
            self.Send(array, parent, tag)

    def _hand_down(self, array: Any, tag: int) -> None:
        parent, children = self._binomial()
        if parent >= 0:
            self.Recv(array, parent, tag)
        self.wait([self.Isend(array, child, tag) for child in reversed(children)])

    def _reduce_around(self, array: Any, combine: Callable[..., Any]) -> None:
        """Combine around a ring: each part collects all shares, then goes around once more.

        Every rank sends and receives 2 (n - 1) / n of the array.
        """
        size, rank = self._size, self._rank
        bounds = [len(array) * part // size for part in range(size + 1)]
        parts = [array[start:stop] for start, stop in pairwise(bounds)]
        inbox = np.empty(max(map(len, parts)), array.dtype)
        after, before = (rank + 1) % size, (rank - 1) % size
        for step in range(2 * (size - 1)):
            mine, theirs = parts[(rank - step) % size], parts[(rank - step - 1) % size]
            is_summing = step < size - 1
            target = inbox[: len(theirs)] if is_summing else theirs
            self.wait([self.Irecv(target, before, RING), self.Isend(mine, after, RING)])
            if is_summing:
                combine(theirs, target, out=theirs)

    def _exchange(self, sent: Sequence[Any], received: Sequence[Any]) -> None:
        others = [rank for rank in range(self._size) if rank != self._rank]
        requests = [self.Irecv(received[rank], rank, ALL) for rank in others if received[rank].size]
        requests += [self.Isend(sent[rank], rank, ALL) for rank in others if sent[rank].size]
        self.wait(requests)

    def send_object(self, value: Any, dest: int) -> None:
        """Send a Python object, pickled."""
        self.Send(pickle.dumps((value,)), dest, OBJECT)

    def poll_object(self, source: int) -> tuple[Any] | None:
        """Receive an object if one has come, alone in a tuple; None if not."""
        peer = self._ranks[source]
        status = MPI.Status()
        try:
            message = self.post.data.Improbe(peer, self._first_tag + OBJECT, status)
        except MPI.Exception as error:
            self.post.dead.add(peer)
            raise Lost(f"rank {peer} is dead ({error})", {peer}) from error
        if message is None:
            return None
        data = bytearray(status.Get_count(MPI.BYTE))
        WatchedRequest(self, message.Irecv(data), peer, data, is_receive=True).Wait()
        boxed: tuple[Any] = pickle.loads(data)
        return boxed

    def receive_object(self, source: int) -> Any:
        """Wait for an object."""
        vigil = Vigil(self, self._silence_s)
        while (boxed := self.poll_object(source)) is None:
            vigil.go_on([self._ranks[source]])
        return boxed[0]


class Vigil:
    """One wait: when to sleep, when to look around, when to give up.

    Parameters
    ----------
    comm : WatchedComm
    silence_s : float
        A rank is given up that was silent for so long. One of this host must also have done nothing else for
        so long, neither used the processor nor waited for a disk; after `MOST_SILENCES` times as long it is
        given up whatever it does.
    meanwhile : callable, optional
        See `WatchedComm.wait`.
    limit_s : float, optional
        If given, how long ranks may be silent instead, whatever they do.
    """

    def __init__(
        self,
        comm: WatchedComm,
        silence_s: float,
        meanwhile: Callable[[], bool] | None = None,
        limit_s: float | None = None,
    ) -> None:
        self._comm, self._silence_s, self._limit_s, self._meanwhile = comm, silence_s, limit_s, meanwhile
        self._efforts: dict[int, tuple[int, float]] = {}
        self._longest_pause_s = LONGEST_PAUSE_S if meanwhile is None else LONGEST_PATIENT_PAUSE_S
        self._spins, self._pause_s = 0, 0.0
        self._begun_s = self._looked_s = 0.0

    def go_on(self, peers: Sequence[int], is_due: bool = True) -> None:
        """Pass a moment; while nothing `is_due`, nobody is given up for being late.

        Raises
        ------
        Lost
            If waiting for `peers`, ranks of the job, makes no sense any more.
        """
        self._spins += 1
        if self._meanwhile is not None and self._meanwhile():
            self._comm.post.clock.note_work()
            self._look_around(peers, is_due)
            return
        if self._meanwhile is None and self._spins < SPINS:
            return
        self._look_around(peers, is_due)
        time.sleep(self._pause_s)
        self._pause_s = min(self._pause_s + 1e-5, self._longest_pause_s)

    def _look_around(self, peers: Sequence[int], is_due: bool) -> None:
        comm, now = self._comm, self._comm.post.clock.now_s()
        comm.check_letters()
        if not self._begun_s:
            self._begun_s = self._looked_s = now
        if now - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = now
        if halted := [peer for peer in peers if comm.post.is_halted(peer)]:
            raise Lost(f"rank {', '.join(map(str, halted))} stopped, gone or out of reach", halted)
        limit_s = self._silence_s if self._limit_s is None else self._limit_s
        if is_due and (silent := [peer for peer in peers if self._silent_s(peer, now) > limit_s]):
            raise Lost(f"rank {', '.join(map(str, silent))} silent for {limit_s:g} s", silent)

    def _silent_s(self, peer: int, now: float) -> float:
        """Seconds since there was a sign of life."""
        waited_s = now - self._begun_s
        if self._limit_s is not None or waited_s > MOST_SILENCES * self._silence_s:
            return waited_s
        effort, (last, seen_s) = self._comm.post.effort(peer), self._efforts.get(peer, (-1, self._begun_s))
        if effort != last:
            seen_s = now if last >= 0 else seen_s
            self._efforts[peer] = effort, seen_s
        return now - seen_s


def _parts(described: Sequence[Any]) -> list[Any]:
    """Cut [array, counts, starts, type] into the parts of each rank."""
    array, counts, starts = described[0].reshape(-1), described[1], described[2]
    return [array[start : start + count] for start, count in zip(starts, counts, strict=True)]
