"""Gossip against the matrix product it stands for."""

import numpy as np
import pytest

from fdrl_mpi.build_collective import mixing_matrix
from fdrl_mpi.comm import gossip
from fdrl_mpi.comm.world import World
from fdrl_mpi.config import GossipConfig
from fdrl_mpi.streams import stream
from fdrl_mpi.topology.graph import contraction

pytestmark = pytest.mark.mpi(min_size=2)


def _models(num_agents: int, d: int) -> np.ndarray:
    return stream(7, "models").standard_normal((num_agents, d), dtype=np.float32)


def _round(collective, world, models):
    """Mix what each agent holds in `rows`; `models` is what it had before."""
    own_weights = np.ones(len(world.agents))
    collective.encode(models, own_weights, np.ones(world.num_agents))
    assert collective.exchange() is None
    return collective.publish(models[0])


def _own(world, everything):
    return everything[[agent - 1 for agent in world.agents]]


@pytest.mark.parametrize("agents_per_rank", [1, 3])
@pytest.mark.parametrize("d", [1, 1000])
@pytest.mark.parametrize("settings", [{"graph": "ring"}, {"graph": "complete"}, {"step": 0.05}])
def test_round_is_one_product_with_the_mixing_matrix(
    world, on_all_ranks, monkeypatch, agents_per_rank, d, settings
):
    monkeypatch.setattr(gossip, "CHUNK", 300)  # several chunks
    some = World(world.comm, agents_per_rank)
    mixing = mixing_matrix(GossipConfig(**settings), some.num_agents, 0)
    collective = gossip.Gossip(some, d, mixing)
    everything = _models(some.num_agents, d)
    collective.rows[:] = _own(some, everything)
    mixed = _round(collective, some, [np.zeros(d, np.float32)] * max(len(some.agents), 1))
    expected = _own(some, mixing @ everything.astype(np.float64))
    on_all_ranks(some.is_root or np.allclose(np.array(mixed), expected, rtol=1e-5, atol=1e-6))


def test_models_approach_each_other_as_fast_as_the_second_eigenvalue_says(world, on_all_ranks):
    mixing = mixing_matrix(GossipConfig(graph="ring"), world.num_agents, 0)
    collective = gossip.Gossip(world, 500, mixing)
    collective.rows[:] = _own(world, _models(world.num_agents, 500))
    distances = []
    for _ in range(30):
        models = _round(collective, world, list(collective.rows) or [np.zeros(500, np.float32)])
        rows = np.array([collective.measure()["distance_to_mean"]]).reshape(-1, 1)
        table = world.gather_agent_rows(rows)
        distances.append(np.sqrt(np.square(table).mean()) if world.is_root else 0.0)
        collective.rows[:] = models if len(world.agents) else collective.rows
    factor = contraction(mixing)
    if world.is_root and factor > 1e-6:
        ratios = np.array(distances[1:]) / distances[:-1]
        far = np.array(distances[1:]) > 1e-3  # below, float32 models agree to rounding
        good = (ratios[far] <= factor * (1.0 + 1e-3)).all()
        late = ratios[far][-1]
        on_all_ranks(good and late >= 0.9 * factor, f"{late} a round, expected {factor}")
    else:
        on_all_ranks(True)


def test_agent_whose_update_was_left_out_takes_part_with_its_last_model(world, on_all_ranks):
    mixing = mixing_matrix(GossipConfig(graph="complete"), world.num_agents, 0)
    collective = gossip.Gossip(world, 3, mixing)
    is_left_out = world.rank == 1
    collective.rows[:] = np.nan if is_left_out else 1.0
    last = [np.full(3, 4.0, np.float32)]
    own = np.zeros(1) if is_left_out else np.ones(len(world.agents))
    collective.encode(last, own, np.ones(world.num_agents))
    collective.exchange()
    mixed = collective.publish(last[0])
    expected = (4.0 + world.num_agents - 1) / world.num_agents
    on_all_ranks(world.is_root or np.allclose(mixed[0], expected))


def test_bytes_grow_with_the_neighbours(world, on_all_ranks):
    mixing = mixing_matrix(GossipConfig(graph="ring"), world.num_agents, 0)
    collective = gossip.Gossip(world, 100, mixing)
    _round(collective, world, [np.zeros(100, np.float32)])
    counted = collective.traffic.take()
    neighbours = 0 if world.is_root else int(np.count_nonzero(mixing[world.rank - 1])) - 1
    on_all_ranks((counted.sent_bytes, counted.sent_messages) == (400 * neighbours, neighbours))
