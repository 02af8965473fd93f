"""Exchanges of a model, this program's and plain MPI's, timed in turn on all ranks."""

from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np
from mpi4py import MPI
from mpi4py.MPI import Intracomm
from reporting import Spread

from fdrl_mpi.aggregation.mean import Mean
from fdrl_mpi.aggregation.server import Average
from fdrl_mpi.aggregation.views import View
from fdrl_mpi.arrays import FloatVector
from fdrl_mpi.build_collective import collective_of
from fdrl_mpi.comm.collective import Collective, Traffic
from fdrl_mpi.comm.world import World
from fdrl_mpi.config import CommConfig

Work: TypeAlias = Callable[[], object]
Contest: TypeAlias = dict[str, tuple[Work, Work]]
"""By name: what comes before the barrier, and what is timed."""


def measure(world: World, names: Iterable[str], d: int, repeats: int, warmup: int) -> list[dict[str, Any]]:
    """Compare collectives of the program with the plain calls; one at a time holds memory."""
    rows, comm = [], world.comm
    for name in names:
        own = collective_of(CommConfig(collective=name), world, d, View.SUM)
        contest = _own(own, world, d) | _raw_allreduce(comm, d) | _raw_gather_bcast(comm, d) | _copy(comm, d)
        _take_turns(comm, contest, warmup)
        own.traffic.take()
        seconds = _take_turns(comm, contest, repeats)
        rows.append(_row(name, world, d, seconds, own.traffic.take()))
    return rows


def _own(collective: Collective, world: World, d: int) -> Contest:
    """Move a model through this program's classes, as a round does."""
    params, rule, server = np.full(d, 0.5, np.float32), Mean(), Average()
    models, weights = [params] * max(len(world.agents), 1), np.ones(world.num_agents)
    own_weights = np.ones(len(world.agents))
    collective.rows[:] = 0.5

    def encode() -> None:
        collective.encode(models, own_weights, weights)

    def move() -> None:
        model, received = params, collective.exchange()
        if received is not None:
            model = server.step(params[received.columns], rule.aggregate(received), received.columns)
        collective.publish(model)

    def encode_and_move() -> None:
        encode()
        move()

    return {"own": (encode, move), "own with encode": (_nothing, encode_and_move)}


def _copy(comm: Intracomm, d: int) -> Contest:
    """Copy a vector on every rank: what the memory of this machine gives to all of them together."""
    source, target = np.ones(d, np.float32), np.empty(d, np.float32)

    def copy() -> None:
        np.copyto(target, source)
        comm.Barrier()

    return {"copy": (_nothing, copy)}


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
            comm.Barrier()  # a rank that is through must not take the core from one that is not
    comm.Allreduce(MPI.IN_PLACE, seconds, MPI.MAX)
    return dict(zip(contest, seconds.tolist(), strict=True))


def _row(
    name: str, world: World, d: int, seconds: dict[str, list[float]], traffic: Traffic
) -> dict[str, Any]:
    spreads = {key: Spread.of(values) for key, values in seconds.items()}
    own = spreads["own"]
    medians = {
        "with_encode": spreads["own with encode"].median,
        "raw_allreduce": spreads["allreduce"].median,
        "raw_gather_bcast": spreads["gather and bcast"].median,
    }
    copied_bytes, moved_bytes = 2 * 4 * d * world.size, 4 * d * (world.num_agents + 1)
    exchanges = 2 * own.repeats
    return {
        "collective": name,
        "agents": world.num_agents,
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
        "copy_bytes_per_s": copied_bytes / spreads["copy"].median,
        "share_of_bandwidth": moved_bytes / own.median / (copied_bytes / spreads["copy"].median),
        "root_sent_bytes": traffic.sent_bytes / exchanges,
        "root_received_bytes": traffic.received_bytes / exchanges,
        "root_messages": (traffic.sent_messages + traffic.received_messages) / exchanges,
    }


def _nothing() -> None:
    """Prepare nothing."""
