"""Whether ranks on other hosts are there: questions that a thread answers, whatever its rank is busy with."""

from collections import Counter
from collections.abc import Iterator
from threading import Event, Thread

from mpi4py import MPI

from fdrl_mpi.comm.waiting_clock import WaitingClock

ASK_EVERY_S = 1.0
"""How long an answer holds."""
LOOK_EVERY_S = 0.2
"""How often the thread looks for questions and answers."""
QUESTION, ANSWER = 0, 1
"""Tags of messages that have nothing in them."""


class Pulse:
    """Questions to other ranks, and a thread that answers theirs.

    A rank that trains says nothing for as long as that takes, but its thread does. No answer comes from one
    that is stopped, nor from a host that is cut off; else neither would show, because TCP goes on trying for
    a quarter of an hour. Nothing is sent while nobody waits for another host.

    Parameters
    ----------
    comm : MPI.Comm
        All ranks of the job, all alive; collective. Only the thread uses the copy that is made of it.
    limit_s : float
        A rank that leaves a question open for longer is silent.
    """

    def __init__(self, comm: MPI.Comm, limit_s: float) -> None:
        assert MPI.Query_thread() == MPI.THREAD_MULTIPLE
        self._comm, self._limit_s = comm.Dup(), limit_s
        self._open: dict[int, float] = {}  # since when a rank owes an answer
        self._heard: dict[int, float] = {}
        self._num_answers: Counter[int] = Counter()
        self._asked: set[int] = set()
        self._leaving: list[MPI.Request] = []
        self._clock = WaitingClock()
        self._now_s = self._clock.now_s()  # of the thread: it leaves out when all stood still
        self._is_over = Event()
        self._thread = Thread(target=self._serve, name="pulse", daemon=True)
        self._thread.start()

    def is_silent(self, rank: int) -> bool:
        """Whether a rank has left a question open for too long; ask it, if none is."""
        now = self._now_s
        if rank not in self._open and now - self._heard.get(rank, float("-inf")) >= ASK_EVERY_S:
            self._open[rank] = now
        return now - self._open.get(rank, now) > self._limit_s

    def num_answers(self, rank: int) -> int:
        """Count the answers of a rank."""
        return self._num_answers[rank]

    def close(self) -> None:
        """Answer no more: MPI is about to end."""
        self._is_over.set()
        self._thread.join()

    def _serve(self) -> None:
        while not self._is_over.wait(LOOK_EVERY_S):
            self._now_s = self._clock.now_s()
            for rank, tag in self._arrived():
                if tag == QUESTION:
                    self._send(rank, ANSWER)
                else:
                    self._asked.discard(rank)
                    self._heard[rank] = self._now_s
                    self._num_answers[rank] += 1
                    self._open.pop(rank, None)
            for rank in self._open.keys() - self._asked:
                self._asked.add(rank)
                self._send(rank, QUESTION)
            self._leaving = [request for request in self._leaving if not is_over(request)]

    def _arrived(self) -> Iterator[tuple[int, int]]:
        """Receive what has come: of each message the sender and the tag."""
        status = MPI.Status()
        while True:
            try:
                if not self._comm.Iprobe(MPI.ANY_SOURCE, MPI.ANY_TAG, status):
                    return
                rank, tag = status.Get_source(), status.Get_tag()
                self._comm.Recv(bytearray(), rank, tag)
            except MPI.Exception:  # somebody has died that had not been acknowledged
                self._comm.Ack_failed()
                continue
            yield rank, tag

    def _send(self, rank: int, tag: int) -> None:
        try:
            self._leaving.append(self._comm.Isend(b"", rank, tag))
        except MPI.Exception:  # it is dead: the post knows
            return


def is_over(request: MPI.Request) -> bool:
    """Whether a request is done, or never will be."""
    try:
        return request.Test()
    except MPI.Exception:
        return True
