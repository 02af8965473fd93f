"""Exchanges through the secure sum, timed on all ranks beside those through the plain ones."""

import time
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
from mpi4py import MPI
from reporting import Spread

from fdrl_mpi.aggregation.mean import Mean
from fdrl_mpi.comm.allreduce import Allreduce
from fdrl_mpi.comm.collective import Collective, Models
from fdrl_mpi.comm.secure_ring import SecureRing, SecureSettings
from fdrl_mpi.comm.world import World

WARMUP = 3


class _TimedRing(SecureRing):
    """Takes the time of the comparison after publication."""

    compare_s = 0.0

    def _is_the_same_everywhere(self) -> bool:
        started = perf_counter()
        is_good = super()._is_the_same_everywhere()
        self.compare_s = perf_counter() - started
        return is_good


def measure(world: World, d: int, ring_degree: int, training_ms: float, repeats: int) -> dict[str, Any]:
    """Time exchanges of each kind in turn, each after a pause in which masks are made."""
    settings = SecureSettings(ring_degree, 1, 0, largest_change=4.0, largest_weight=1.0)
    secure, plain = _TimedRing(world, d, settings), Allreduce(world, d)
    move_secure, move_plain = _mover(secure, world), _mover(plain, world)
    raw = np.full(d, 0.5, np.float32)
    names = ("on_path", "compare", "mask", "mask_wait", "allreduce", "raw_allreduce")
    seconds = np.zeros((len(names), WARMUP + repeats))
    for turn in range(WARMUP + repeats):
        time.sleep(1e-3 * training_ms)
        whole = _timed(world, move_secure)
        mask, mask_wait = (float(value.sum()) for value in secure.measure().values())
        own = _timed(world, move_plain)
        bare = _timed(world, lambda: world.comm.Allreduce(MPI.IN_PLACE, raw))
        raw.fill(0.5)
        seconds[:, turn] = whole - secure.compare_s, secure.compare_s, mask, mask_wait, own, bare
    counted = secure.traffic.take()
    world.comm.Allreduce(MPI.IN_PLACE, seconds, MPI.MAX)
    spreads = {name: Spread.of(row[WARMUP:].tolist()) for name, row in zip(names, seconds, strict=True)}
    rounds = WARMUP + repeats
    plain_bytes = _plain_bytes(world, secure, d)
    over = np.array([0.0 if world.is_root else counted.sent_bytes / rounds - plain_bytes])
    ratio = np.array([0.0 if world.is_root else counted.sent_bytes / rounds / plain_bytes])
    world.comm.Allreduce(MPI.IN_PLACE, over, MPI.MAX)
    world.comm.Allreduce(MPI.IN_PLACE, ratio, MPI.MAX)
    medians = {name: spread.median for name, spread in spreads.items()}
    return {
        "agents": world.num_agents,
        "d": d,
        "ring_degree": ring_degree,
        "repeats": repeats,
        "spread": spreads["on_path"].relative,
        **{f"{name}_s": value for name, value in medians.items()},
        **{f"{name}_ms": 1e3 * value for name, value in medians.items()},
        "ratio_to_allreduce": medians["on_path"] / medians["allreduce"],
        "over_allreduce_ms": 1e3 * (medians["on_path"] - medians["allreduce"]),
        "hidden_share": 1.0 - medians["mask_wait"] / max(medians["mask"], 1e-9),
        "bytes_over": float(over[0]),
        "bytes_ratio": float(ratio[0]),
    }


def _plain_bytes(world: World, secure: SecureRing, d: int) -> int:
    """Count what this rank would send along the same tree without protection."""
    links = secure._up
    return 4 * d * (len(links._children) + int(not world.is_root))


def _mover(collective: Collective, world: World) -> Callable[[], Models]:
    """Make what moves a model, from encoding to publication."""
    d = collective.rows.shape[1]
    models = [np.zeros(d, np.float32)] * max(len(world.agents), 1)
    own_weights, weights, rule = np.ones(len(world.agents)), np.ones(world.num_agents), Mean()
    collective.rows[:] = 0.5

    def move() -> Models:
        collective.encode(models, own_weights, weights)
        received, params = collective.exchange(), models[0]
        if received is not None:
            params = rule.aggregate(received)
        return collective.publish(params)

    return move


def _timed(world: World, work: Callable[[], object]) -> float:
    world.barrier()
    started = perf_counter()
    work()
    seconds = perf_counter() - started
    world.barrier()
    return seconds
