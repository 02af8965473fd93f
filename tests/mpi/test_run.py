"""Whole runs on all ranks of this job, against the one-process oracle and against themselves."""

import numpy as np
import pytest
from mpi4py import MPI
from oracle import oracle as _oracle
from runs import config_of as _config
from runs import different as _different
from runs import model_of as _model
from runs import run_to_end as _run
from runs import state_of as _state

from fdrl_mpi.build import make_plan
from fdrl_mpi.build_agent import draw_worlds, make_environment, make_model
from fdrl_mpi.comm.world import World
from fdrl_mpi.federation import synchronous
from fdrl_mpi.federation.interrupt import Interrupt
from fdrl_mpi.federation.persistence import save
from fdrl_mpi.process import LikewiseError
from fdrl_mpi.record.checkpoint import CheckpointStore
from fdrl_mpi.record.metrics_file import read_metrics
from fdrl_mpi.record.verdict import Verdict
from fdrl_mpi.rl.objective import LocalObjective
from fdrl_mpi.rl.ppo import PPO
from fdrl_mpi.session import Refusal, Session

pytestmark = pytest.mark.mpi(min_size=2)


@pytest.mark.parametrize("weighting", ["uniform", "samples", "episodes"])
@pytest.mark.parametrize("fraction", ["1.0", "0.5"])
@pytest.mark.parametrize("collective", ["gather", "node"])
def test_run_that_adds_in_the_order_of_agents_equals_the_one_process_oracle_to_the_bit(
    world, on_all_ranks, run_dir, collective, weighting, fraction
):
    config = _config(
        run_dir,
        comm__collective=collective,
        aggregation__weighting=weighting,
        participation__fraction=fraction,
    )
    on_all_ranks(_run(world, config) == 0)
    on_all_ranks(np.array_equal(_model(config, 4), _oracle(config, world.num_agents)))


@pytest.mark.parametrize("collective", ["allreduce", "tree"])
def test_round_that_adds_in_another_order_equals_the_oracle_to_rounding(
    world, on_all_ranks, run_dir, collective
):
    """One round: over several, rounding grows through the choice of actions."""
    config = _config(run_dir, rounds="1", comm__collective=collective)
    on_all_ranks(_run(world, config) == 0)
    oracle = _oracle(config, world.num_agents)
    on_all_ranks(np.allclose(_model(config, 1), oracle, rtol=1e-6, atol=1e-7))


@pytest.mark.parametrize("collective", ["gather", "node"])
def test_several_agents_on_a_rank_equal_the_oracle_to_the_bit(world, on_all_ranks, run_dir, collective):
    config = _config(run_dir, agents_per_rank="3", comm__collective=collective)
    on_all_ranks(_run(world, config) == 0)
    num_agents = 3 * (world.size - 1)
    on_all_ranks(np.array_equal(_model(config, 4), _oracle(config, num_agents)))
    if world.is_root:
        metrics = read_metrics(f"{run_dir}/run/metrics.h5")
        is_complete = metrics.agents.tolist() == list(range(1, num_agents + 1))
        steps = metrics.values["env_steps"]
        on_all_ranks(is_complete and (steps == 64).all() and np.isfinite(metrics.values["weight"]).all())
    else:
        on_all_ranks(True)


@pytest.mark.parametrize("collective", ["node", "allreduce", "tree", "gather", "secure_ring"])
def test_agents_that_do_not_go_into_the_ranks_equal_the_oracle(world, on_all_ranks, run_dir, collective):
    if collective == "secure_ring" and world.size < 4:
        pytest.skip("a secure sum needs three parties besides the root")
    agents = 3 * (world.size - 1) - 1 if world.size > 2 else 2
    changes = {"comm__collective": collective, "participation__fraction": "0.8", "rounds": "2"}
    ring = {"comm__secure__dropouts": "0", "comm__secure__ring_degree": "1"}
    config = _config(run_dir, agents=str(agents), aggregation__weighting="uniform", **changes, **ring)
    on_all_ranks(_run(world, config) == 0)
    on_all_ranks(np.allclose(_model(config, 2), _oracle(config, agents), rtol=1e-4, atol=1e-5))
    metrics = read_metrics(f"{run_dir}/run/metrics.h5")
    on_all_ranks(metrics.agents.tolist() == list(range(1, agents + 1)))
    trained = metrics.values["present"].sum(axis=1)
    on_all_ranks((trained == trained[0]).all() and np.isfinite(metrics.values["wait_s"]).all())


def test_run_goes_on_with_its_agents_on_other_ranks(world, on_all_ranks, run_dir):
    """Six agents begin on some ranks and end on one; both layouts of the second part give the same bits."""
    config = _config(run_dir, rounds="2", agents_per_rank="6", mode="independent")
    alone = _first_ranks(world, 2)
    if alone is not None:
        Session(config, World(alone, 6)).run(Interrupt())
    world.barrier()
    others = min(world.size - 1, 2)
    few = _first_ranks(world, 1 + others)
    wider = _config(run_dir, agents_per_rank=str(6 // others), mode="independent")
    if few is not None:
        Session(wider, World(few, 6 // others)).run(Interrupt())
    world.barrier()
    unbroken = _config(run_dir, run__name="unbroken", agents_per_rank="6", mode="independent")
    if alone is not None:
        Session(unbroken, World(alone, 6)).run(Interrupt())
    world.barrier()
    states = [[_state(one, 4, agent) for agent in range(1, 7)] for one in (wider, unbroken)]
    different = [_different(a, b) for a, b in zip(*states, strict=True)]
    on_all_ranks(not any(different), f"they differ in {different}")


def _first_ranks(world, number: int) -> MPI.Comm | None:
    part = world.comm.Split(0 if world.rank < number else MPI.UNDEFINED, world.rank)
    return None if part == MPI.COMM_NULL else part


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mode": "independent"},
        {"mode": "centralised"},
        {"learner__engine": "torch"},
        {"agents_per_rank": "2"},
    ],
)
@pytest.mark.parametrize("stopped_after", ["2", "3"])
def test_resumed_run_equals_unbroken_run_to_the_bit(world, on_all_ranks, run_dir, changes, stopped_after):
    unbroken = _config(run_dir, run__name="unbroken", **changes)
    first = _config(run_dir, rounds=stopped_after, **changes)
    for config in (unbroken, first, _config(run_dir, **changes)):
        on_all_ranks(_run(world, config) == 0)
    num_agents = (world.size - 1) * int(changes.get("agents_per_rank", 1))
    for agent in range(num_agents + 1):
        states = [_state(config, 4, agent) for config in (unbroken, first)]
        on_all_ranks(not _different(*states), f"agent {agent}: they differ in {_different(*states)}")
    if world.is_root:
        ours, theirs = (read_metrics(f"{run_dir}/{name}/metrics.h5").values for name in ("run", "unbroken"))
        timeless = [name for name in ours if not name.endswith("_s")]
        different = [n for n in timeless if not np.array_equal(ours[n], theirs[n], equal_nan=True)]
        ignorable = [] if stopped_after == "2" else ["evaluation_return", "evaluation_length"]
        on_all_ranks(set(different) <= set(ignorable), f"records differ in {different}")
    else:
        on_all_ranks(True)


def test_run_goes_on_from_another_run_in_a_new_directory(world, on_all_ranks, run_dir):
    first = _config(run_dir, rounds="2")
    on_all_ranks(_run(world, first) == 0)
    second = _config(run_dir, run__name="second", run__resume=f"{run_dir}/run")
    on_all_ranks(_run(world, second) == 0)
    unbroken = _config(run_dir, run__name="unbroken")
    on_all_ranks(_run(world, unbroken) == 0)
    on_all_ranks(not _different(_state(second, 4, world.rank), _state(unbroken, 4, world.rank)))


def test_damaged_checkpoint_gives_way_to_the_one_before_and_the_record_is_rewound(
    world, on_all_ranks, run_dir
):
    config, unbroken = _config(run_dir), _config(run_dir, run__name="unbroken")
    for one in (config, unbroken):
        on_all_ranks(_run(world, one) == 0)
    if world.is_root:
        store = CheckpointStore(f"{run_dir}/run", 9)
        file = store.folder / "round_000004" / store.file_for(world.size - 1)
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    world.barrier()
    on_all_ranks(_run(world, config) == 0)
    on_all_ranks(not _different(_state(config, 4, world.rank), _state(unbroken, 4, world.rank)))
    if world.is_root:
        on_all_ranks(read_metrics(f"{run_dir}/run/metrics.h5").rounds.tolist() == [1, 2, 3, 4])
    else:
        on_all_ranks(True)


@pytest.mark.parametrize(
    "changes", [{"seed": "1"}, {"learner__gamma": "0.5"}, {"environment__num_envs": "4"}]
)
def test_run_of_another_configuration_is_refused_and_left_alone(world, on_all_ranks, run_dir, changes):
    on_all_ranks(_run(world, _config(run_dir, rounds="1")) == 0)
    before = _state(_config(run_dir), 1, world.rank)
    refused = ""
    try:
        Session(_config(run_dir, rounds="1", **changes), world)
    except Refusal as refusal:
        refused = str(refusal)
    (key,) = changes
    on_all_ranks(key.replace("__", ".") in refused, f"refused with: {refused!r}")
    on_all_ranks(not _different(before, _state(_config(run_dir), 1, world.rank)))


def test_never_resuming_keeps_the_old_run_aside(world, on_all_ranks, run_dir):
    config = _config(run_dir, rounds="1")
    on_all_ranks(_run(world, config) == 0)
    other = _config(run_dir, rounds="1", seed="5", run__resume="never")
    on_all_ranks(_run(world, other) == 0)
    aside = _config(run_dir, run__name="run.1")
    on_all_ranks(bool(_different(_state(aside, 1, world.rank), _state(other, 1, world.rank))))


def test_independent_agents_learn_what_they_would_learn_alone(world, on_all_ranks, run_dir):
    """An agent without federation is a federation of one, to the bit."""
    config = _config(run_dir, mode="independent")
    on_all_ranks(_run(world, config) == 0)
    if world.is_root:
        on_all_ranks(True)
        return
    context = draw_worlds(config, world.num_agents)[world.rank - 1]
    environment = make_environment(config.environment, [context] * config.environment.num_envs)
    model = make_model(config.learner, config.seed, environment, "numpy", "cpu")
    learner = PPO(config.learner, model, environment, LocalObjective())
    schedule = make_plan(config, world.num_agents).schedule
    for round in range(1, config.rounds + 1):
        learner.train(schedule(round, world.rank))
    on_all_ranks(np.array_equal(learner.params, _state(config, 4, world.rank)["model"]))


def test_centralised_learner_sees_all_worlds_and_takes_all_steps(world, on_all_ranks, run_dir):
    config = _config(run_dir, mode="centralised")
    on_all_ranks(_run(world, config) == 0)
    if world.is_root:
        values = read_metrics(f"{run_dir}/run/metrics.h5").values
        steps = np.nan_to_num(values["env_steps"])
        good = np.all(steps[:, 0] == 64 * world.num_agents) and not steps[:, 1:].any()
        on_all_ranks(good and np.isfinite(values["evaluation_return"][-1]).all())
    else:
        on_all_ranks(True)


def test_agent_with_an_update_that_is_not_finite_is_left_out(world, on_all_ranks, run_dir):
    session = Session(_config(run_dir, rounds="2", evaluation__every="1"), world)
    if world.rank == world.size - 1:
        learner = session.rank.parts.participants[world.num_agents].learner
        train = learner.train

        def spoil(budget):
            stats = train(budget)
            learner.params[0] = np.nan
            return stats

        learner.train = spoil
    status = session.run(Interrupt())
    on_all_ranks(status == (1 if world.size == 2 else 0), f"status {status}")
    if world.size > 2:
        on_all_ranks(np.isfinite(_model(_config(run_dir), 2)).all())
        if world.is_root:
            values = read_metrics(f"{run_dir}/run/metrics.h5").values
            on_all_ranks(np.flatnonzero(values["rejected"][0] == 1.0).tolist() == [world.size - 2])
        else:
            on_all_ranks(True)


def test_run_with_the_secure_sum_equals_the_oracle_to_fixed_point_and_tells_no_weights(
    world, on_all_ranks, run_dir
):
    config = _config(run_dir, rounds="1", comm__collective="secure_ring")
    if world.size < 4:
        with pytest.raises(Refusal, match="a sum of one is no secret"):
            Session(config, world)
        return
    on_all_ranks(_run(world, config) == 0)
    oracle = _oracle(config, world.num_agents)
    on_all_ranks(np.allclose(_model(config, 1), oracle, rtol=1e-6, atol=1e-6))
    good = True
    if world.is_root:
        values = read_metrics(f"{run_dir}/run/metrics.h5").values
        good = all(np.isnan(values[name]).all() for name in ("weight", "update_norm"))
        good = good and (values["mask_s"] > 0.0).all()
    on_all_ranks(good)
    on_all_ranks(_run(world, _config(run_dir, rounds="2", comm__collective="secure_ring")) == 0)


def test_gossiping_agents_keep_models_of_their_own_and_their_distance_is_recorded(
    world, on_all_ranks, run_dir
):
    changes = {
        "comm__collective": "gossip",
        "comm__gossip__graph": "ring",
        "aggregation__weighting": "uniform",
    }
    whole, part = _config(run_dir, run__name="unbroken", **changes), _config(run_dir, rounds="2", **changes)
    for config in (whole, part, _config(run_dir, **changes)):
        on_all_ranks(_run(world, config) == 0)
    states = [_state(config, 4, world.rank) for config in (whole, part)]
    on_all_ranks(not _different(*states), f"resumed, they differ in {_different(*states)}")
    on_all_ranks(("params" in states[0]) == (not world.is_root), "the root has no model")
    models = np.array([_state(whole, 4, agent)["params"] for agent in range(1, world.size)], np.float64)
    distances = np.linalg.norm(models - models.mean(axis=0), axis=1)
    root_mean_square = np.sqrt(np.square(distances).mean())
    good = True
    if world.is_root:
        values = read_metrics(f"{run_dir}/run/metrics.h5").values
        good = np.allclose(values["distance_to_mean"][-1], distances, atol=1e-6)
        good = good and np.allclose(values["consensus_distance"][-1], root_mean_square, atol=1e-6)
        good = good and np.isfinite(values["evaluation_return"][-1]).all()
    on_all_ranks(good)


def test_run_whose_last_state_could_not_be_saved_has_failed(world, on_all_ranks, run_dir, monkeypatch):
    def full_disk(store, round, parts, models):
        return round < 4 and save(store, round, parts, models)

    monkeypatch.setattr(synchronous, "save", full_disk)
    on_all_ranks(_run(world, _config(run_dir)) == 1)
    if world.is_root:
        verdict = Verdict.read(f"{run_dir}/run/verdict.json")
        on_all_ranks(verdict.outcome == "failed" and "not saved" in verdict.reason, str(verdict))
    else:
        on_all_ranks(True)
    monkeypatch.undo()
    on_all_ranks(_run(world, _config(run_dir)) == 0, "it goes on from the last checkpoint")


def test_worlds_differ_between_agents_and_are_recorded(world, on_all_ranks, run_dir):
    on_all_ranks(_run(world, _config(run_dir, rounds="1")) == 0)
    if world.is_root:
        facts = read_metrics(f"{run_dir}/run/metrics.h5").agent_facts
        drawn = [context["gravity"] for context in draw_worlds(_config(run_dir), world.num_agents)]
        on_all_ranks(
            facts["context_gravity"].values.tolist() == drawn and facts["context_gravity"].units == "m/s^2"
        )
    else:
        on_all_ranks(True)


def test_unreadable_record_is_kept_aside_and_a_new_one_goes_on(world, on_all_ranks, run_dir):
    on_all_ranks(_run(world, _config(run_dir, rounds="2")) == 0)
    if world.is_root:
        with open(f"{run_dir}/run/metrics.h5", "r+b") as file:
            file.truncate(1000)
    on_all_ranks(_run(world, _config(run_dir)) == 0)
    on_all_ranks(_run(world, _config(run_dir, rounds="6")) == 0, "it goes on with the new record too")
    if world.is_root:
        kept = read_metrics(f"{run_dir}/run/metrics.h5").rounds.tolist()
        on_all_ranks(kept == [2, 3, 4, 5, 6], f"rounds {kept}")
    else:
        on_all_ranks(True)


@pytest.mark.parametrize("is_resumed", [False, True])
def test_a_run_that_breaks_names_the_last_round_done(world, on_all_ranks, run_dir, monkeypatch, is_resumed):
    """Behind the last round, and before the first one after a resumption."""

    def breaks(*arguments):
        raise RuntimeError("broken")

    if is_resumed:
        on_all_ranks(_run(world, _config(run_dir, rounds="2")) == 0)
        monkeypatch.setattr(synchronous.SynchronousRun, "_whole", breaks)
    else:
        monkeypatch.setattr(synchronous, "End", breaks)
    with pytest.raises((RuntimeError, LikewiseError), match="broken") as caught:
        _run(world, _config(run_dir, rounds="4" if is_resumed else "2"))
    monkeypatch.undo()
    in_full = [rank for rank, kind in enumerate(world.gather_objects(caught.type)) if kind is RuntimeError]
    verdict = Verdict.read(f"{run_dir}/run/verdict.json")
    on_all_ranks((verdict.outcome, verdict.round) == ("failed", 2), str(verdict))
    on_all_ranks(len(in_full) == 1, f"ranks {in_full} say where it broke")
    on_all_ranks(verdict.reason.startswith(f"rank {in_full[0]} "), verdict.reason)
