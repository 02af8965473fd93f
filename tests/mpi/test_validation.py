"""A model that is not taken: the round leaves everything but the agents' own progress as it was."""

import numpy as np
import pytest
from oracle import oracle
from runs import config_of, different, model_of, run_to_end, state_of

from fdrl_mpi.comm.world import World
from fdrl_mpi.federation.interrupt import Interrupt
from fdrl_mpi.record.metrics_file import read_metrics, took_part
from fdrl_mpi.session import Session

COLLECTIVES = ["node", "allreduce", "tree", "gather", "secure_ring"]
SMALL_RING = {"comm__secure__dropouts": "0", "comm__secure__ring_degree": "1"}


def _refuse(rounds):
    """Object to the models of some rounds."""
    passed = []

    def check(base, params, received):
        passed.append(None)
        return "the test wants it so" if len(passed) in rounds else ""

    return check


def _run(world, config, refused):
    session = Session(config, World(world.comm, config.agents_per_rank))
    session.rank.parts.checks = [_refuse(refused)]
    status = session.run(Interrupt())
    world.barrier()
    return status


def _config(world, run_dir, collective, **changes):
    if collective == "secure_ring" and world.size < 4:
        pytest.skip("a secure sum needs three parties besides the root")
    return config_of(
        run_dir, comm__collective=collective, aggregation__weighting="uniform", **SMALL_RING, **changes
    )


@pytest.mark.parametrize("collective", COLLECTIVES)
def test_the_last_model_stays(world, on_all_ranks, run_dir, collective):
    config = _config(world, run_dir, collective)
    on_all_ranks(_run(world, config, refused={1, 3}) == 0)
    expected = oracle(config, world.num_agents, refused={1, 3})
    on_all_ranks(bool(np.abs(model_of(config, 4) - expected).max() < 1e-5))
    metrics = read_metrics(f"{run_dir}/run/metrics.h5")
    on_all_ranks(metrics.values["refused"].tolist() == [1.0, 0.0, 1.0, 0.0])
    everyone = list(range(1, world.num_agents + 1))
    on_all_ranks([entry["agents"] for entry in took_part(metrics)] == [[], everyone, [], everyone])


@pytest.mark.parametrize("collective", ["node", "allreduce", "tree"])
@pytest.mark.parametrize(
    "changes", [{"aggregation__server__name": "adam"}, {"objective__control_variates": "true"}]
)
def test_what_server_and_agents_keep_is_taken_back(world, on_all_ranks, run_dir, collective, changes):
    config = _config(world, run_dir, collective, **changes)
    on_all_ranks(_run(world, config, refused={2, 3}) == 0)
    expected = oracle(config, world.num_agents, refused={2, 3})
    on_all_ranks(bool(np.abs(model_of(config, 4) - expected).max() < 1e-5))


def test_a_run_whose_model_is_refused_three_times_in_a_row_has_failed(world, on_all_ranks, run_dir):
    config = _config(world, run_dir, "tree", rounds="9")
    on_all_ranks(_run(world, config, refused={2, 4, 5, 6}) == 1)
    on_all_ranks(read_metrics(f"{run_dir}/run/metrics.h5").rounds.tolist() == [1, 2, 3, 4, 5, 6])


@pytest.mark.parametrize("collective", COLLECTIVES[1:])
def test_a_drop_that_nobody_can_reach_changes_nothing(world, on_all_ranks, run_dir, collective):
    settings = {"aggregation__validation__most_drop": "1e9", "aggregation__validation__episodes": "1"}
    plain = _config(world, run_dir, collective, run__name="plain")
    checked = _config(world, run_dir, collective, **settings)
    on_all_ranks(run_to_end(world, plain) == 0 and run_to_end(world, checked) == 0)
    ours, theirs = state_of(checked, 4, world.rank), state_of(plain, 4, world.rank)
    on_all_ranks(different(ours, theirs) == [] or collective == "secure_ring", str(different(ours, theirs)))
    on_all_ranks(bool(np.abs(model_of(checked, 4) - model_of(plain, 4)).max() < 1e-5))
