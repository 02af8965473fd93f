"""Every collective against the mean worked out in float64 from all ranks' contributions."""

import os
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

from fdrl_mpi.aggregation.mean import Mean
from fdrl_mpi.aggregation.server import Average, FedAdam, Momentum, assembled
from fdrl_mpi.aggregation.views import Stack, Sum, View
from fdrl_mpi.build_collective import GIVES, collective_of
from fdrl_mpi.comm import shared_memory
from fdrl_mpi.comm.collective import Traffic
from fdrl_mpi.comm.isolated import Isolated
from fdrl_mpi.comm.world import World
from fdrl_mpi.config import CommConfig
from fdrl_mpi.streams import stream

pytestmark = pytest.mark.mpi(min_size=2)


@pytest.fixture(scope="module", params=["MPI", "watched"])
def world(request, world):
    return world if request.param == "MPI" else request.getfixturevalue("watched_world")


WITH_ONE_MODEL = ["allreduce", "gather", "node", "tree"]
LENGTHS = [1, 2, 7, 1000, 40_001]
ROUNDING = {"rtol": 2e-6, "atol": 2e-6}  # sums of few float32 terms of order 1


def _agents(world: World) -> range:
    return range(1, world.num_agents + 1)


@pytest.fixture(scope="module")
def several_nodes(world: World) -> World:
    """The same ranks, as if even and odd ones were on two nodes."""
    return World(world.comm, 1, world.comm.Split(world.rank % 2, world.rank))


@pytest.fixture
def one_node(world: World) -> None:
    """Leave out where ranks are on several nodes."""
    if len(set(world.nodes)) > 1:
        pytest.skip("for ranks that share memory")


def _update(rank: int, d: int) -> np.ndarray:
    return stream(4, "update", rank).standard_normal(d, dtype=np.float32)


def _weights(pattern: str, num_agents: int) -> list[float]:
    weight_of = {
        "equal": lambda agent: 1.0,
        "different": lambda agent: float(agent**2),
        "one absent": lambda agent: float(agent != 1 or num_agents == 1),
        "one alone": lambda agent: float(agent == 1),
    }[pattern]
    return [weight_of(agent) for agent in range(1, num_agents + 1)]


def _publish(collective, world, weights, updates=_update):
    """Move one model; `weights` of all agents."""
    own = np.array([weights[agent - 1] for agent in world.agents])
    for row, agent in zip(collective.rows, world.agents, strict=True):
        row[:] = updates(agent, len(row))
    world.barrier()
    d = collective.rows.shape[1]
    params = np.full(d, np.nan, np.float32)
    collective.encode([params] * max(len(own), 1), own, np.array(weights, np.float64))
    received = collective.exchange()
    if received is not None:
        params = Average().step(params[received.columns], Mean().aggregate(received), received.columns)
    return collective.publish(params)


def _make(world, name, d, **settings):
    return collective_of(CommConfig(collective=name, **settings), world, d, View.SUM)


@pytest.mark.parametrize("pattern", ["equal", "different", "one absent", "one alone"])
@pytest.mark.parametrize("d", LENGTHS)
@pytest.mark.parametrize("name", WITH_ONE_MODEL)
def test_published_model_is_the_weighted_mean_on_every_rank(world, on_all_ranks, name, d, pattern):
    weights = _weights(pattern, world.num_agents)
    expected = np.average([_update(a, d) for a in _agents(world)], axis=0, weights=weights)
    collective = _make(world, name, d)
    for _ in range(2):  # buffers are used again
        params = _publish(collective, world, weights)[0]
        on_all_ranks(np.allclose(params, expected, **ROUNDING), f"off by {np.abs(params - expected).max()}")
        same = world.gather_objects(params.tobytes())
        on_all_ranks(len(set(same)) == 1, "ranks hold different bits")


@pytest.mark.parametrize("name", ["allreduce", "gather", "tree"])
def test_update_of_an_absent_agent_is_never_looked_at(world, on_all_ranks, name):
    """Rows of the node's shared memory are finite by the round's own rule, and cost nothing to ignore."""
    weights = [1.0] * world.num_agents
    weights[-1] = 0.0 if len(weights) > 1 else 1.0
    update = lambda agent, d: np.full(d, 3.0 if weights[agent - 1] else np.nan, np.float32)  # noqa: E731
    params = _publish(_make(world, name, 5), world, weights, update)[0]
    on_all_ranks(np.allclose(params, 3.0, rtol=1e-6), "a NaN got through")


@pytest.mark.parametrize("name", WITH_ONE_MODEL)
def test_single_agent_gets_its_model_back_to_the_bit(world, on_all_ranks, name):
    weights = _weights("one alone", world.num_agents)
    params = _publish(_make(world, name, 101), world, weights)[0]
    on_all_ranks(params.tobytes() == _update(1, 101).tobytes())


@pytest.mark.parametrize("name", ["gather", "node"])
def test_stack_holds_the_rows_of_all_agents_in_their_order(world, on_all_ranks, name):
    d = 10_000
    collective = collective_of(CommConfig(collective=name), world, d, View.STACK)
    for row, agent in zip(collective.rows, world.agents, strict=True):
        row[:] = _update(agent, d)
    world.barrier()
    weights = np.arange(1.0, world.num_agents + 1)
    collective.encode([np.zeros(d, np.float32)], weights[[a - 1 for a in world.agents]], weights)
    stack = collective.exchange()
    expected = np.array([_update(agent, d) for agent in _agents(world)])
    if stack is not None:
        good = isinstance(stack, Stack) and np.array_equal(stack.rows, expected[:, stack.columns])
        on_all_ranks(good and stack.weights.tolist() == weights.tolist())
        gram = stack.gram()
        on_all_ranks(np.allclose(gram, expected.astype(float) @ expected.T.astype(float)))
    else:
        on_all_ranks(not world.is_root, "the root sees every update")
        on_all_ranks(True)


def test_allreduce_and_tree_show_no_more_than_a_sum(world, on_all_ranks):
    for name in ("allreduce", "tree"):
        collective = _make(world, name, 4)
        weights = np.ones(world.num_agents)
        collective.encode([np.zeros(4, np.float32)], np.ones(len(world.agents)), weights)
        received = collective.exchange()
        on_all_ranks(isinstance(received, Sum) or (received is None and not world.is_root), name)
        collective.publish(np.zeros(4, np.float32))


def test_bytes_are_counted_where_they_are_sent(world, on_all_ranks, one_node):
    d, agents = 1000, world.num_agents
    counted = {}
    for name in WITH_ONE_MODEL:
        collective = _make(world, name, d)
        _publish(collective, world, [1.0] * agents)
        counted[name] = collective.traffic.take()
        on_all_ranks(collective.traffic.take().sent_bytes == 0, "taking the counts starts them again")
    vector, own = 4 * d, 4 * d * len(world.agents)
    below = len(_make(world, "tree", d).shape.children[world.rank])
    above = int(not world.is_root)
    expected = {
        "allreduce": Traffic(vector, vector, 1, 1),
        "gather": Traffic(vector, agents * vector, 1, 1) if world.is_root else Traffic(own, vector, 1, 1),
        "node": Traffic(own, vector, 0, 0),
        "tree": Traffic((above + below) * vector, (above + below) * vector, above + below, above + below),
    }
    on_all_ranks(counted == expected, f"counted {counted}, expected {expected}")


@pytest.mark.parametrize("name", WITH_ONE_MODEL)
def test_what_crosses_between_two_hosts_is_a_vector_each_way(world, on_all_ranks, several_nodes, name):
    """But for what shows every update to the root: all those of the other host."""
    vector, agents = 4 * 1000, several_nodes.num_agents
    beyond = sum(rank % 2 for rank in range(several_nodes.size))
    for some, expected in ((several_nodes, (beyond if name == "gather" else 1) + 1), (world, 0)):
        collective = _make(some, name, 1000)
        _publish(collective, some, [1.0] * agents)
        crossed = some.gather_objects(collective.traffic.take().crossing_bytes)
        if some.num_nodes == 1 or some is several_nodes:
            on_all_ranks(sum(crossed) == expected * vector, f"{crossed}")


def test_rows_cross_between_two_hosts_but_for_the_columns_of_their_own(world, on_all_ranks, several_nodes):
    d = 100_003
    collective = collective_of(CommConfig(collective="node"), several_nodes, d, View.STACK)
    _publish(collective, several_nodes, [1.0] * several_nodes.num_agents)
    crossed = sum(several_nodes.gather_objects(collective.traffic.take().crossing_bytes))
    columns = several_nodes.gather_objects(collective.exchange().columns)
    widths = [sum(c.stop - c.start for c in columns[node::2]) for node in (0, 1)]
    rows = sum(widths[1 - rank % 2] for rank in range(1, several_nodes.size))
    on_all_ranks(crossed == 4 * (rows + d), f"{crossed}")


def test_an_absent_agent_hands_in_no_bytes(world, on_all_ranks, one_node):
    collective, weights = _make(world, "node", 100), _weights("one absent", world.num_agents)
    _publish(collective, world, weights)
    present = sum(weights[agent - 1] for agent in world.agents)
    on_all_ranks(collective.traffic.take().sent_bytes == 400 * present)


@pytest.mark.parametrize("fan_out", [2, 3, 8])
@pytest.mark.parametrize("d", [1, 100_003])
def test_tree_of_any_fan_out_over_any_nodes_forms_the_mean(world, on_all_ranks, several_nodes, fan_out, d):
    for some in (world, several_nodes):
        tree = _make(some, "tree", d, fan_out=fan_out)
        params = _publish(tree, some, [1.0] * some.num_agents)[0]
        expected = np.mean([_update(a, d) for a in _agents(some)], axis=0)
        on_all_ranks(np.allclose(params, expected, **ROUNDING))
        root_bytes = tree.traffic.take().received_bytes
        on_all_ranks(not some.is_root or root_bytes <= fan_out * 4 * d, "the root takes fan_out vectors")


@pytest.mark.parametrize("pattern", ["equal", "one absent"])
@pytest.mark.parametrize("d", [1, 4097, 100_003])
@pytest.mark.parametrize("needs", list(View))
def test_nodes_form_the_mean_together(world, on_all_ranks, several_nodes, needs, d, pattern):
    weights = _weights(pattern, several_nodes.num_agents)
    collective = collective_of(CommConfig(collective="node"), several_nodes, d, needs)
    on_all_ranks(collective.gives == needs)
    expected = np.average([_update(a, d) for a in _agents(several_nodes)], axis=0, weights=weights)
    for _ in range(2):
        params = _publish(collective, several_nodes, weights)[0]
        on_all_ranks(np.allclose(params, expected, **ROUNDING), f"off by {np.abs(params - expected).max()}")


def test_agents_on_however_many_ranks_give_the_same_bits_in_shared_memory(world, on_all_ranks, one_node):
    """Agents 1 to 12 on every divisor of them that this job has ranks for."""
    d, results = 50_001, []
    for ranks in (1, 2, 3, 4, 6, 12):
        part = world.comm.Split(0 if world.rank <= ranks else MPI.UNDEFINED, world.rank)
        if ranks >= world.size or not part:
            continue
        some = World(part, agents_per_rank=12 // ranks)
        for name in ("node", "gather"):
            weights = _weights("different", 12)
            results.append(_publish(_make(some, name, d), some, weights)[0].tobytes())
        for name in ("allreduce", "tree"):
            params = _publish(_make(some, name, d), some, weights)[0]
            assert np.allclose(params, np.frombuffer(results[0], np.float32), **ROUNDING)
    on_all_ranks(len(set(results)) <= 1, "the layout changed the bits")
    everyone = {bits for rank in world.gather_objects(results) for bits in rank}
    on_all_ranks(len(everyone) == 1)


def test_isolated_agents_keep_their_own_models_to_the_bit(world, on_all_ranks):
    collective = Isolated(world, 9)
    models = _publish(collective, world, [1.0] * world.num_agents)
    own = [_update(agent, 9).tobytes() for agent in world.agents]
    on_all_ranks(world.is_root or [model.tobytes() for model in models] == own)
    collective.rows[:] = 99.0
    collective.encode(models, np.zeros(len(world.agents)), np.zeros(world.num_agents))
    kept = [model.tobytes() for model in collective.publish(models[0])]
    on_all_ranks(world.is_root or kept == own, "absent: the model stays")


@pytest.mark.parametrize(("needs", "instead"), [(View.SUM, "allreduce"), (View.STACK, "gather")])
def test_without_shared_memory_on_one_rank_all_of_them_take_another_way(
    world, on_all_ranks, monkeypatch, caplog, needs, instead
):
    if world.rank == 0:
        monkeypatch.setattr(shared_memory, "FOLDER", "/nowhere")
    collective = collective_of(CommConfig(collective="node"), world, 1000, needs)
    on_all_ranks(collective.name == instead, collective.name)
    on_all_ranks(not world.is_root or "/nowhere" in caplog.text, caplog.text)


def test_shared_memory_that_does_not_fit_is_refused_on_all_ranks_and_leaves_no_file(world, on_all_ranks):
    free = os.statvfs(shared_memory.FOLDER)
    num_bytes = 2 * free.f_frsize * free.f_blocks
    before = set(Path(shared_memory.FOLDER).glob("fdrl_mpi_*"))
    world.barrier()
    refused = ""
    try:
        shared_memory.SharedMemory(world.node, num_bytes, [(0, num_bytes)] if world.local_rank == 0 else [])
    except OSError as error:
        refused = str(error)
    on_all_ranks(str(num_bytes) in refused, f"refused with {refused!r}")
    on_all_ranks(set(Path(shared_memory.FOLDER).glob("fdrl_mpi_*")) <= before, "a file was left")


def test_auto_takes_shared_memory_where_ranks_share_some(world, on_all_ranks, one_node, several_nodes):
    def picked(some, needs):
        return collective_of(CommConfig(), some, 10, needs).name

    on_all_ranks(picked(world, View.SUM) == "node")
    shares_nodes = len(set(several_nodes.nodes)) < several_nodes.size
    on_all_ranks(picked(several_nodes, View.SUM) == ("node and tree" if shares_nodes else "allreduce"))
    on_all_ranks(picked(several_nodes, View.STACK) == "node and alltoall")


SERVERS = {
    "average": lambda: Average(lr=2.0),
    "momentum": lambda: Momentum("parameters", 0.7, 0.9),
    "adam": lambda: FedAdam("parameters", 0.1, 0.9, 0.99, 1e-3),
}


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("name", WITH_ONE_MODEL)
def test_server_steps_on_slices_make_the_model_of_a_server_in_one_process(world, on_all_ranks, name, server):
    """Servers read the last model, and keep their state over the columns that a rank sees."""
    d, weights = 5000, [1.0] * world.num_agents
    mean = np.mean([_update(agent, d) for agent in _agents(world)], axis=0)
    collective, expected = _make(world, name, d), np.zeros(d, np.float32)
    ours, alone = SERVERS[server](), SERVERS[server]()
    models = [np.zeros(d, np.float32)] * max(len(world.agents), 1)
    for _ in range(4):
        for row, agent in zip(collective.rows, world.agents, strict=True):
            row[:] = models[0] + _update(agent, d)
        world.barrier()
        collective.encode(models, np.ones(len(world.agents)), np.array(weights))
        received, params = collective.exchange(), models[0]
        if received is not None:
            params = ours.step(params[received.columns], Mean().aggregate(received), received.columns)
        models = collective.publish(params)
        expected = alone.step(expected, (expected + mean).astype(np.float32), slice(None))
        on_all_ranks(
            np.allclose(models[0], expected, atol=1e-4), f"off by {np.abs(models[0] - expected).max()}"
        )
    whole = assembled(world.gather_objects(ours.get_state()), d)
    reference = assembled([alone.get_state()], d)
    on_all_ranks(all(np.allclose(whole[name], reference[name], atol=1e-4) for name in reference))


@pytest.mark.parametrize("needs", list(View))
def test_collective_gives_what_the_table_of_names_promises(world, on_all_ranks, needs):
    for name in WITH_ONE_MODEL:
        if GIVES[name] >= needs:
            gives = collective_of(CommConfig(collective=name), world, 10, needs).gives
            on_all_ranks(needs <= gives <= GIVES[name], name)
