"""A learner and a rule of one's own through the program: equal to one process, and resumable."""

import numpy as np
import pytest
from oracle import oracle
from runs import config_of, different, model_of, run_to_end, state_of

from fdrl_mpi import session
from fdrl_mpi.problem import Problem
from fdrl_mpi.record.metrics_file import read_metrics

pytestmark = pytest.mark.mpi(min_size=2)

PPO = ("learner.num_steps", "learner.num_minibatches")
MEDIAN = {"aggregation__rule": "geometric_median:GeometricMedian"}
EVOLUTION = {
    "learner__name": "own",
    "learner__id": "evolution_strategy:EvolutionStrategy",
    "learner__kwargs": "{pairs = 2}",
    "learner__budget": "8",
}


@pytest.mark.parametrize("agents_per_rank", ["1", "2"])
@pytest.mark.parametrize("collective", ["node", "gather"])
def test_a_round_with_a_rule_of_ones_own_equals_the_oracle(
    world, on_all_ranks, run_dir, collective, agents_per_rank
):
    """To rounding: slices of inner products are added in another order."""
    config = config_of(
        run_dir, rounds="1", comm__collective=collective, agents_per_rank=agents_per_rank, **MEDIAN
    )
    on_all_ranks(run_to_end(world, config) == 0)
    expected = oracle(config, (world.size - 1) * int(agents_per_rank))
    on_all_ranks(np.allclose(model_of(config, 1), expected, rtol=1e-5, atol=1e-6))


@pytest.mark.parametrize("server", ["adam", "momentum"])
def test_a_server_steps_along_what_the_rule_made(world, on_all_ranks, run_dir, server):
    config = config_of(run_dir, rounds="1", aggregation__server__name=server, **MEDIAN)
    on_all_ranks(run_to_end(world, config) == 0)
    on_all_ranks(np.allclose(model_of(config, 1), oracle(config, world.num_agents), rtol=1e-4, atol=1e-5))


@pytest.mark.parametrize("collective", ["node", "gather"])
@pytest.mark.parametrize(
    "changes", [{}, {"aggregation__update_kind": "gradient"}, {"objective__proximal": "0.1"}], ids=str
)
def test_a_learner_of_ones_own_equals_the_oracle(world, on_all_ranks, run_dir, collective, changes):
    config = config_of(run_dir, PPO, comm__collective=collective, **EVOLUTION, **changes)
    on_all_ranks(run_to_end(world, config) == 0)
    on_all_ranks(np.array_equal(model_of(config, 4), oracle(config, world.num_agents)))


def test_a_resumed_run_of_both_equals_an_unbroken_one(world, on_all_ranks, run_dir):
    unbroken = config_of(run_dir, PPO, run__name="unbroken", **EVOLUTION, **MEDIAN)
    for config in (unbroken, *(config_of(run_dir, PPO, rounds=n, **EVOLUTION, **MEDIAN) for n in "24")):
        on_all_ranks(run_to_end(world, config) == 0)
    for agent in range(world.size):
        states = [state_of(config, 4, agent) for config in (unbroken, config)]
        on_all_ranks(not different(*states), f"agent {agent}: they differ in {different(*states)}")
    steps = read_metrics(f"{run_dir}/run/metrics.h5").values["gradient_steps"]
    on_all_ranks(bool((steps == 1).all()))


def test_what_is_wrong_on_one_host_refuses_the_run_on_all_ranks(world, on_all_ranks, run_dir, monkeypatch):
    found = [Problem("aggregation.rule = a:B", "cannot import a", "mend it")]
    monkeypatch.setattr(session, "check", lambda *_: found if world.rank == 1 else [])
    try:
        session.Session(config_of(run_dir), world)
    except session.Refusal as refusal:
        on_all_ranks(refusal.problems == found)
    else:
        on_all_ranks(False, "it begins")
