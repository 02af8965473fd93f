"""Every collective against the mean worked out in float64 from all ranks' contributions."""

import numpy as np
import pytest

from fdrl_mpi.aggregation.mean import Mean
from fdrl_mpi.aggregation.server import Average
from fdrl_mpi.aggregation.views import Stack, Sum
from fdrl_mpi.build import COLLECTIVES
from fdrl_mpi.comm.isolated import Isolated
from fdrl_mpi.streams import stream

pytestmark = pytest.mark.mpi(min_size=2)
LENGTHS = [1, 2, 7, 1000, 40_001]
ROUNDING = {"rtol": 2e-6, "atol": 2e-6}  # sums of few float32 terms of order 1


def _update(rank: int, d: int) -> np.ndarray:
    return stream(4, "update", rank).standard_normal(d, dtype=np.float32)


def _weight(rank: int, pattern: str, size: int) -> float:
    if rank == 0:
        return 0.0
    return {
        "equal": 1.0,
        "different": float(rank**2),
        "one absent": float(rank != 1 or size == 2),
        "one alone": float(rank == 1),
    }[pattern]


def _publish(collective, rank, weight, total, d):
    collective.encode(_update(rank, d), weight, total)
    received = collective.exchange()
    params = np.full(d, np.nan, np.float32)
    if received is not None:
        params = Average().step(params, Mean().aggregate(received))
    return collective.publish(params)


@pytest.mark.parametrize("pattern", ["equal", "different", "one absent", "one alone"])
@pytest.mark.parametrize("d", LENGTHS)
@pytest.mark.parametrize("name", COLLECTIVES)
def test_published_model_is_the_weighted_mean_on_every_rank(world, on_all_ranks, name, d, pattern):
    weights = [_weight(rank, pattern, world.size) for rank in range(world.size)]
    collective = COLLECTIVES[name](world.comm, d)
    expected = sum(w * _update(r, d).astype(np.float64) for r, w in enumerate(weights)) / sum(weights)
    for _ in range(2):  # buffers are used again
        params = _publish(collective, world.rank, weights[world.rank], sum(weights), d)
        on_all_ranks(np.allclose(params, expected, **ROUNDING), f"off by {np.abs(params - expected).max()}")
        same = world.gather_objects(params.tobytes())
        on_all_ranks(len(set(same)) == 1, "ranks hold different bits")


@pytest.mark.parametrize("name", COLLECTIVES)
def test_update_of_an_absent_rank_is_never_looked_at(world, on_all_ranks, name):
    collective = COLLECTIVES[name](world.comm, 5)
    is_absent = world.rank == world.size - 1 and world.size > 2
    weight = 0.0 if is_absent or world.is_root else 1.0
    update = np.full(5, np.nan if weight == 0.0 else 3.0, np.float32)
    collective.encode(update, weight, max(world.size - 2, 1))
    received = collective.exchange()
    params = Mean().aggregate(received) if received is not None else np.empty(5, np.float32)
    on_all_ranks(np.allclose(collective.publish(params), 3.0, rtol=1e-6), "a NaN got through")


def test_single_agent_gets_its_model_back_to_the_bit(world, on_all_ranks):
    for make in COLLECTIVES.values():
        params = _publish(make(world.comm, 101), world.rank, float(world.rank == 1), 1.0, 101)
        on_all_ranks(params.tobytes() == _update(1, 101).tobytes(), make.__name__)


def test_allreduce_shows_a_sum_and_gather_every_update(world, on_all_ranks):
    allreduce, gather = (COLLECTIVES[name](world.comm, 4) for name in ("allreduce", "gather"))
    for collective in (allreduce, gather):
        collective.encode(_update(world.rank, 4), float(world.rank), world.size * (world.size - 1) / 2)
    on_all_ranks(isinstance(allreduce.exchange(), Sum))
    stack = gather.exchange()
    if world.is_root:
        rows = np.array([_update(rank, 4) for rank in range(1, world.size)])
        good = isinstance(stack, Stack) and np.array_equal(stack.rows, rows)
        on_all_ranks(
            good and stack.weights.tolist() == list(range(1, world.size)), "rows in the order of agents"
        )
    else:
        on_all_ranks(stack is None, "only the root sees single updates")


def test_bytes_are_counted_where_they_are_sent(world, on_all_ranks):
    d, agents = 1000, world.size - 1
    allreduce, gather = (COLLECTIVES[name](world.comm, d) for name in ("allreduce", "gather"))
    for collective in (allreduce, gather):
        _publish(collective, world.rank, float(world.rank > 0), agents, d)
    counted = allreduce.traffic.take()
    on_all_ranks((counted.sent_bytes, counted.received_bytes) == (4 * d, 4 * d), f"allreduce {counted}")
    counted = gather.traffic.take()
    up, down = 4 * (d + 1), 4 * d
    expected = (down, agents * up) if world.is_root else (up, down)
    on_all_ranks((counted.sent_bytes, counted.received_bytes) == expected, f"gather {counted}")
    on_all_ranks(gather.traffic.take().sent_bytes == 0, "taking the counts starts them again")


def test_isolated_ranks_keep_their_own_models_to_the_bit(world, on_all_ranks):
    collective = Isolated(np.zeros(9, np.float32))
    params = _publish(collective, world.rank, 1.0, world.size, 9)
    on_all_ranks(params.tobytes() == _update(world.rank, 9).tobytes())
    kept = _publish(collective, 99, 0.0, world.size, 9)
    on_all_ranks(kept.tobytes() == _update(world.rank, 9).tobytes(), "absent: the model stays")
