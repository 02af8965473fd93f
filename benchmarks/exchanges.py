"""Exchanges of a model, this program's and plain MPI's, timed in turn on all ranks."""

from collections.abc import Callable
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np
from mpi4py import MPI
from mpi4py.MPI import Intracomm
from reporting import Spread

from fdrl_mpi.aggregation.mean import Mean
from fdrl_mpi.aggregation.server import Average
from fdrl_mpi.arrays import FloatVector
from fdrl_mpi.build import COLLECTIVES
from fdrl_mpi.comm.collective import Collective

Work: TypeAlias = Callable[[], object]
Contest: TypeAlias = dict[str, tuple[Work, Work]]
"""By name: what comes before the barrier, and what is timed."""


def measure(comm: Intracomm, d: int, repeats: int, warmup: int) -> list[dict[str, Any]]:
    """Compare each collective of the program with the plain calls; one at a time holds memory."""
    rows = []
    for name, make in COLLECTIVES.items():
        contest = _own(make(comm, d), comm, d) | _raw_allreduce(comm, d) | _raw_gather_bcast(comm, d)
        _take_turns(comm, contest, warmup)
        rows.append(_row(name, comm.size - 1, d, _take_turns(comm, contest, repeats)))
    return rows


def _own(collective: Collective, comm: Intracomm, d: int) -> Contest:
    """Move a model through this program's classes, as a round does."""
    params, rule, server = np.full(d, 0.5, np.float32), Mean(), Average()
    weight, total = float(comm.rank > 0), comm.size - 1.0

    def encode() -> None:
        collective.encode(params, weight, total)

    def move() -> None:
        model, received = params, collective.exchange()
        if received is not None:
            model = server.step(params, rule.aggregate(received))
        collective.publish(model)

    def encode_and_move() -> None:
        encode()
        move()

    return {"own": (encode, move), "own with encode": (_nothing, encode_and_move)}


def _raw_allreduce(comm: Intracomm, d: int) -> Contest:
    buffer = np.empty(d, np.float32)
    return {"allreduce": (_writing(buffer, d), lambda: comm.Allreduce(MPI.IN_PLACE, buffer, MPI.SUM))}


def _raw_gather_bcast(comm: Intracomm, d: int) -> Contest:
    """Gather from all ranks to the root, the root's own row in place, and broadcast one row."""
    is_root = comm.rank == 0
    buffer, model = np.zeros((comm.size if is_root else 1, d), np.float32), np.zeros(d, np.float32)

    def move() -> None:
        if is_root:
            comm.Gather(MPI.IN_PLACE, buffer)
        else:
            comm.Gather(buffer, None)
        comm.Bcast(model)

    return {"gather and bcast": (_writing(buffer[0], d), move)}


def _writing(buffer: FloatVector, d: int) -> Work:
    """Do to a plain buffer what encoding does, so that both are in the same caches."""
    update = np.full(d, 0.5, np.float32)
    return lambda: np.multiply(update, np.float32(0.5), out=buffer)


def _take_turns(comm: Intracomm, contest: Contest, turns: int) -> dict[str, list[float]]:
    """Time everything once a turn, another one first in each; give the seconds of the slowest rank."""
    seconds, works = np.zeros((len(contest), turns)), list(contest.values())
    for turn in range(turns):
        for place in range(len(works)):
            number = (turn + place) % len(works)
            before, work = works[number]
            before()
            comm.Barrier()
            started = perf_counter()
            work()
            seconds[number, turn] = perf_counter() - started
    comm.Allreduce(MPI.IN_PLACE, seconds, MPI.MAX)
    return dict(zip(contest, seconds.tolist(), strict=True))


def _row(name: str, agents: int, d: int, seconds: dict[str, list[float]]) -> dict[str, Any]:
    spreads = {key: Spread.of(values) for key, values in seconds.items()}
    own = spreads["own"]
    medians = {
        "with_encode": spreads["own with encode"].median,
        "raw_allreduce": spreads["allreduce"].median,
        "raw_gather_bcast": spreads["gather and bcast"].median,
    }
    return {
        "collective": name,
        "agents": agents,
        "d": d,
        "repeats": own.repeats,
        "median_s": own.median,
        "quartiles_s": [own.lower, own.upper],
        "spread": own.relative,
        "median_ms": 1e3 * own.median,
        **{f"{key}_s": value for key, value in medians.items()},
        **{f"{key}_ms": 1e3 * value for key, value in medians.items()},
        "ratio_to_raw_allreduce": own.median / medians["raw_allreduce"],
        "ratio_to_raw_gather_bcast": own.median / medians["raw_gather_bcast"],
    }


def _nothing() -> None:
    """Prepare nothing."""
