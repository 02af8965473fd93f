"""Messages and bytes of each collective, and the fit of what they cost."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log2
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np

from fdrl_mpi.comm.tree import CHUNK_BYTES_BETWEEN, CHUNK_BYTES_WITHIN
from fdrl_mpi.privacy.expansion import Expander, fresh_seed
from fdrl_mpi.privacy.fixed_point import FixedPoint
from fdrl_mpi.topology.tree import choose_fan_out, node_tree

Count: TypeAlias = Callable[[int, float, int], tuple[float, float]]
"""Maps ranks, bytes of a model and cores to messages and bytes, one after another."""


def _levels(ranks: int) -> int:
    return max(ceil(log2(ranks)), 1)


def _pipeline(ranks: int, size: float) -> tuple[float, float]:
    """Count the transfers of one way through a tree over hosts, and their bytes."""
    chunks = max(ceil(size / CHUNK_BYTES_BETWEEN), 1)
    fan_out = choose_fan_out(ranks, chunks)
    if ranks <= 4096:
        tree = node_tree(range(ranks), fan_out, chunks)
        width, depth = max(map(len, tree.children)), tree.depth
    else:
        width, depth = fan_out, ceil(log2(ranks) / log2(fan_out))
    steps = max(width * (depth + chunks - 1), 1)
    return steps, steps * size / chunks


def _within(size: float) -> int:
    return max(ceil(size / CHUNK_BYTES_WITHIN), 1)


NODE: Mapping[str, Count] = {
    "node": lambda n, size, cores: (n * _levels(n) / cores, n * size / cores),
    "tree": lambda n, size, cores: (4 * (n - 1) * _within(size) / cores, 3 * n * size / cores),
    "allreduce": lambda n, size, cores: (n * _levels(n) / cores, 2 * n * size / cores),
    "gather": lambda n, size, cores: (2 * n / cores, 2 * n * size),
    "secure_ring": lambda n, size, cores: ((4 * _within(size) + 4) * (n - 1) / cores, 4 * n * size / cores),
}
"""On one node: the work of all ranks, shared by its cores."""


def _tree(n: int, size: float, cores: int) -> tuple[float, float]:
    steps, moved = _pipeline(n, size)
    return 2 * steps, 2 * moved


def _secure_ring(n: int, size: float, cores: int) -> tuple[float, float]:
    messages, moved = _tree(n, size, cores)
    return messages + 2 * (n - 1), moved


HOSTS: Mapping[str, Count] = {
    "tree": _tree,
    "allreduce": lambda n, size, cores: (2 * _levels(n), 2 * size * (n - 1) / n),
    "gather": lambda n, size, cores: (n - 1 + _levels(n), (n - 1) * size + 2 * size),
    "secure_ring": _secure_ring,
}
"""Between hosts with a rank each: what is on the critical path."""

CORE_EACH: Mapping[str, Count] = {"node": lambda n, size, cores: (_levels(n), size), **HOSTS}
"""Ranks with a core each: what is on the critical path, in shared memory too."""


def _sharing(collective: str) -> Count:
    def count(n: int, size: float, cores: int) -> tuple[float, float]:
        return (CORE_EACH if n <= cores else NODE)[collective](n, size, cores)

    return count


SHARING: Mapping[str, Count] = {name: _sharing(name) for name in CORE_EACH}
"""On as many cores as there are: `CORE_EACH` up to a rank a core, `NODE` where ranks share them."""


@dataclass(frozen=True)
class Fit:
    """What a message and a byte of one collective cost in one place."""

    place: str
    collective: str
    count: Count
    message_s: float
    byte_s: float
    crypto: Mapping[str, float]
    cores: int
    points: Sequence[Mapping[str, Any]]

    def predict(self, agents: int, d: int) -> float:
        """Predict the seconds of one exchange."""
        messages, moved = self.count(agents + 1, 4.0 * d, self.cores)
        return self.message_s * messages + self.byte_s * moved + _crypto(self, agents, d)

    def errors(self) -> list[float]:
        """Compare with what was measured, relative to it."""
        return [abs(self.predict(p["agents"], p["d"]) / p["median_s"] - 1.0) for p in self.points]

    def row(self) -> dict[str, Any]:
        """Summarise for a table."""
        return {
            "place": self.place,
            "collective": self.collective,
            "points": len(self.points),
            "message_us": 1e6 * self.message_s,
            "byte_ns": 1e9 * self.byte_s,
            "median_error": float(np.median(self.errors())),
            "worst_error": max(self.errors()),
        }


def fit(
    place: str,
    collective: str,
    count: Count,
    points: Sequence[Mapping[str, Any]],
    crypto: Mapping[str, float],
    cores: int,
) -> Fit:
    """Fit the two costs by least squares of the logarithms, so that twice too long is as bad as half.

    A search over a grid that closes in three times: two costs, neither below 0, need nothing cleverer.
    """
    blank = Fit(place, collective, count, 0.0, 0.0, crypto, cores, points)
    seconds = np.array([point["median_s"] for point in points])
    known = np.array([_crypto(blank, point["agents"], point["d"]) for point in points])
    counts = np.array([count(point["agents"] + 1, 4.0 * point["d"], cores) for point in points])
    messages, moved = np.logspace(-8, -1, 60), np.logspace(-12, -6, 60)
    for _ in range(3):
        predicted = known + messages[:, None, None] * counts[:, 0] + moved[None, :, None] * counts[:, 1]
        loss = np.square(np.log(predicted / seconds)).sum(axis=2)
        row, column = np.unravel_index(loss.argmin(), loss.shape)
        best = messages[row], moved[column]
        steps = messages[1] / messages[0], moved[1] / moved[0]
        messages, moved = (np.geomspace(b / s, b * s, 60) for b, s in zip(best, steps, strict=True))
    return Fit(place, collective, count, float(best[0]), float(best[1]), crypto, cores, points)


def _crypto(one: Fit, agents: int, d: int) -> float:
    if one.collective != "secure_ring":
        return 0.0
    parts = crypto_seconds(one.crypto, agents, d)
    encode = parts["encode"] * (max(agents / one.cores, 1.0) if one.place == "this node" else 1.0)
    return encode + parts["unmask"] + parts["decode"]


def crypto_seconds(crypto: Mapping[str, float], agents: int, d: int) -> dict[str, float]:
    """Split the work of a secure sum that is on the path: of each agent, and of the root."""
    return {
        "encode": crypto["encode_s"] * d,
        "unmask": crypto["expand_s"] * d * agents,
        "decode": crypto["decode_s"] * d,
    }


def measure_crypto(d: int = 1_000_000, repeats: int = 9) -> dict[str, float]:
    """Time the arithmetic of a secure sum in this process: seconds a parameter."""
    code, expander, seed = FixedPoint(24, 4.0), Expander(d), fresh_seed()
    values, origin, out = np.full(d, 0.5, np.float32), np.zeros(d, np.float32), np.zeros(d, np.float32)
    words = np.zeros(d, np.uint32)
    works: dict[str, Callable[[], object]] = {
        "encode_s": lambda: code.encode(values, origin, 0.5, words, words),
        "expand_s": lambda: expander.add(words, [], [seed]),
        "decode_s": lambda: code.decode_mean(words, 1.0, origin, out),
    }
    return {
        name: float(np.median([_seconds(work) for _ in range(repeats)])) / d for name, work in works.items()
    }


def _seconds(work: Callable[[], object]) -> float:
    started = perf_counter()
    work()
    return perf_counter() - started
