"""Waiting for messages: those of MPI, and those whose other end may die."""

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from mpi4py import MPI

from fdrl_mpi.comm.watched import WatchedComm, WatchedRequest

SHORTEST_PAUSE_S = 1e-5
LONGEST_PAUSE_S = 2e-3

Communicator: TypeAlias = MPI.Comm | WatchedComm
Request: TypeAlias = MPI.Request | WatchedRequest


def wait_all(requests: Sequence[Any]) -> None:
    """Wait for all of them.

    Raises
    ------
    Lost
        If one of them is watched, and waiting for it makes no sense any more.
    """
    if requests and isinstance(requests[0], WatchedRequest):
        requests[0].comm.wait(requests)
    else:
        MPI.Request.Waitall(list(requests))


def wait_some(requests: Sequence[Any]) -> list[int] | None:
    """Wait for at least one; return the numbers of those that are done now, None if all were before.

    Raises
    ------
    Lost
        As `wait_all`.
    """
    if requests and isinstance(requests[0], WatchedRequest):
        return requests[0].comm.wait_some(requests)
    return MPI.Request.Waitsome(list(requests))


def wait_patiently(requests: Sequence[Any], meanwhile: Callable[[], bool], limit_s: float) -> None:
    """Wait for all, and use the time: sleep where there is no other work, so that others get the cores.

    `limit_s` counts where requests are watched.

    Raises
    ------
    Lost
        As `wait_all`.
    """
    if requests and isinstance(requests[0], WatchedRequest):
        requests[0].comm.wait(requests, meanwhile, limit_s)
        return
    pause_s = 0.0
    while not MPI.Request.Testall(list(requests)):
        if not meanwhile():
            time.sleep(pause_s)
            pause_s = min(pause_s + SHORTEST_PAUSE_S, LONGEST_PAUSE_S)
