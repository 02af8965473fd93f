"""Every learner, and everything that can travel, through the program: equal to one process, and resumable."""

import numpy as np
import pytest
from oracle import oracle
from runs import config_of, different, model_of, run_to_end, state_of

from fdrl_mpi.record.checkpoint import CheckpointStore
from fdrl_mpi.record.metrics_file import read_metrics

pytestmark = pytest.mark.mpi(min_size=2)

PPO = {"learner.num_minibatches": "2", "learner.num_steps": "16", "learner.budget": "64"}
NETWORK = {"learner.network.hidden": "[8, 8]"}
TABLE = {"environment.id": "RandomMDP", "learner.gamma": "0.9"}
LEARNERS = {
    "ppo": NETWORK | PPO,
    "a2c": NETWORK | {"learner.budget": "40"},
    "reinforce": NETWORK | {"learner.budget": "4", "learner.batch_episodes": "2"},
    "svrpg": NETWORK | {"learner.budget": "4", "learner.batch_episodes": "2"},
    "dqn": NETWORK
    | {
        "learner.budget": "80",
        "learner.learning_starts": "40",
        "learner.batch_size": "16",
        "learner.buffer_size": "200",
        "learner.target_every": "50",
        "learner.federate_target": "true",
    },
    "sac": NETWORK
    | {
        "environment.id": "Pendulum-v1",
        "learner.budget": "80",
        "learner.learning_starts": "40",
        "learner.batch_size": "16",
        "learner.buffer_size": "200",
        "learner.federate_target": "true",
    },
    "q_learning": TABLE | {"learner.budget": "100"},
    "q_averaging": TABLE | {"learner.budget": "4", "aggregation.weighting": "uniform"},
    "td": {"environment.id": "RewardProcess", "learner.budget": "20"},
}
UNIFORM = {"aggregation.weighting": "uniform"}
FEDERATIONS = {
    "difference": UNIFORM | {"aggregation.update_kind": "difference", "aggregation.server.lr": "0.5"},
    "gradient": UNIFORM | {"aggregation.update_kind": "gradient", "aggregation.server.lr": "0.01"},
    "momentum": {"aggregation.server.name": "momentum"},
    "adagrad": {"aggregation.server.name": "adagrad"},
    "adam": {"aggregation.server.name": "adam"},
    "yogi": {"aggregation.server.name": "yogi"},
    "proximal": {"objective.proximal": "0.1"},
    "scaffold": UNIFORM | {"objective.control_variates": "true", "participation.fraction": "0.5"},
    "scaffold with adam": {"objective.control_variates": "true", "aggregation.server.name": "adam"},
    "divergence": {"objective.kl_coefficient": "0.5"},
    "actor": {"learner.share": "actor"},
    "trunk": {"learner.share": "trunk"},
    "names": {"learner.share": '["actor.0", "critic.2.bias"]'},
}


def _config(run_dir: str, learner: str, changes: dict[str, str] | None = None, **more: str):
    chosen = {"learner.name": learner, **LEARNERS[learner], **(changes or {})}
    dropped = {"learner.num_steps", "learner.num_minibatches", "learner.network.hidden"} - chosen.keys()
    named = {key.replace(".", "__"): value for key, value in chosen.items()}
    return config_of(run_dir, dropped, environment__heterogeneity="{}", **named, **more)


def _near(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Float32 rounding, after few steps that no choice of an action has driven apart."""
    return np.allclose(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("collective", ["node", "gather"])
@pytest.mark.parametrize("learner", LEARNERS)
def test_every_learner_equals_the_oracle(world, on_all_ranks, run_dir, learner, collective):
    config = _config(run_dir, learner, comm__collective=collective)
    on_all_ranks(run_to_end(world, config) == 0)
    on_all_ranks(np.array_equal(model_of(config, 4), oracle(config, world.num_agents)))


@pytest.mark.parametrize("collective", ["tree", "allreduce", "secure_ring"])
@pytest.mark.parametrize("learner", LEARNERS)
def test_one_round_of_every_learner_equals_the_oracle_however_it_is_added(
    world, on_all_ranks, run_dir, learner, collective
):
    if collective == "secure_ring" and world.size < 4:
        pytest.skip("a sum of so few is no secret")
    ring = {"comm.secure.ring_degree": "1", **UNIFORM} if collective == "secure_ring" else {}
    config = _config(run_dir, learner, ring, rounds="1", comm__collective=collective)
    on_all_ranks(run_to_end(world, config) == 0)
    on_all_ranks(_near(model_of(config, 1), oracle(config, world.num_agents)))


@pytest.mark.parametrize("federation", FEDERATIONS)
def test_whatever_travels_equals_the_oracle(world, on_all_ranks, run_dir, federation):
    config = _config(run_dir, "ppo", FEDERATIONS[federation], comm__collective="node")
    on_all_ranks(run_to_end(world, config) == 0)
    expected = oracle(config, world.num_agents)
    on_all_ranks(np.array_equal(model_of(config, 4), expected), federation)


@pytest.mark.parametrize("learner", ["a2c", "reinforce", "dqn", "sac"])
def test_gradients_of_every_learner_move_the_model_as_in_the_oracle(world, on_all_ranks, run_dir, learner):
    own = {"learner.federate_target": "false"} if learner in ("dqn", "sac") else {}
    config = _config(run_dir, learner, FEDERATIONS["gradient"] | own, comm__collective="node")
    on_all_ranks(run_to_end(world, config) == 0)
    expected = oracle(config, world.num_agents)
    on_all_ranks(np.array_equal(model_of(config, 4), expected))
    on_all_ranks(not np.array_equal(model_of(config, 2), expected), "the model moves")


@pytest.mark.parametrize("collective", ["node", "tree", "gather", "allreduce", "secure_ring"])
@pytest.mark.parametrize("federation", ["difference", "gradient", "scaffold with adam", "names"])
def test_what_travels_does_not_depend_on_how_it_travels(world, on_all_ranks, run_dir, federation, collective):
    if collective == "secure_ring" and world.size < 4:
        pytest.skip("a sum of so few is no secret")
    changes = FEDERATIONS[federation] | {"comm.secure.ring_degree": "1"}
    config = _config(run_dir, "ppo", changes, rounds="1", comm__collective=collective)
    on_all_ranks(run_to_end(world, config) == 0)
    on_all_ranks(_near(model_of(config, 1), oracle(config, world.num_agents)))


@pytest.mark.parametrize("collective", ["node", "tree"])
def test_weights_of_coordinates_travel_inside_the_sum(world, on_all_ranks, run_dir, collective):
    config = _config(
        run_dir, "q_learning", {"aggregation.weighting": "visits"}, comm__collective=collective, rounds="2"
    )
    on_all_ranks(run_to_end(world, config) == 0)
    on_all_ranks(np.allclose(model_of(config, 2)[0::2], oracle(config, world.num_agents)[0::2], rtol=1e-4))


@pytest.mark.parametrize(
    ("learner", "federation"),
    [(learner, "") for learner in LEARNERS]
    + [("ppo", name) for name in ("gradient", "adam", "momentum", "scaffold with adam", "trunk")],
)
def test_resumed_run_equals_unbroken_run(world, on_all_ranks, run_dir, learner, federation):
    changes = FEDERATIONS.get(federation)
    broken, unbroken = (_config(run_dir, learner, changes, run__name=name) for name in ("broken", "unbroken"))
    on_all_ranks(run_to_end(world, _config(run_dir, learner, changes, run__name="broken", rounds="2")) == 0)
    for config in (broken, unbroken):
        on_all_ranks(run_to_end(world, config) == 0)
    on_all_ranks(
        not different(state_of(broken, 4, world.rank), state_of(unbroken, 4, world.rank)),
        str(different(state_of(broken, 4, world.rank), state_of(unbroken, 4, world.rank))),
    )


@pytest.mark.parametrize("mode", ["independent", "centralised"])
@pytest.mark.parametrize("learner", LEARNERS)
def test_every_learner_runs_alone_and_on_pooled_worlds(world, on_all_ranks, run_dir, learner, mode):
    changes = {} if learner != "td" else {"environment.kwargs": "{num_agents = 12}"}
    config = _config(run_dir, learner, changes, mode=mode, rounds="2")
    on_all_ranks(run_to_end(world, config) == 0)
    if world.is_root:
        values = read_metrics(f"{run_dir}/run/metrics.h5").values
        on_all_ranks(np.isfinite(values["evaluation_return"][-1]).all())
    else:
        on_all_ranks(True)


@pytest.mark.parametrize("collective", ["tree", "gather"])
def test_the_root_corrects_the_mean_gradient_alike_on_every_collective(
    world, on_all_ranks, run_dir, collective
):
    """FedPG's inner loop is the root's own: one round, and two halves of a run, make the same model."""
    changes = {
        **UNIFORM,
        "learner.baseline": "episode",
        "aggregation.update_kind": "gradient",
        "aggregation.server.name": "fedpg",
        "aggregation.server.num_envs": "2",
    }
    unbroken = _config(run_dir, "reinforce", changes, comm__collective=collective)
    on_all_ranks(run_to_end(world, unbroken) == 0)
    halves = _config(run_dir, "reinforce", changes, comm__collective=collective, run__name="halves")
    first = _config(
        run_dir, "reinforce", changes, comm__collective=collective, run__name="halves", rounds="2"
    )
    for config in (first, halves):
        on_all_ranks(run_to_end(world, config) == 0)
    on_all_ranks(np.array_equal(model_of(halves, 4), model_of(unbroken, 4)))


def test_agents_keep_what_they_do_not_share(world, on_all_ranks, run_dir):
    """Personal models agree in what is shared, and nowhere else."""
    config = _config(run_dir, "ppo", {"learner.share": "trunk"})
    on_all_ranks(run_to_end(world, config) == 0)
    if world.size == 2:
        return
    models = [state_of(config, 4, agent)["model"] for agent in range(1, world.size)]
    heads = slice(len(models[0]) - 27, None)  # two logits and a value of eight units, and their biases
    same = np.all([model == models[0] for model in models[1:]], axis=0)
    on_all_ranks(same[: heads.start].all() and not same[heads].any())


@pytest.mark.parametrize("collective", ["node", "tree"])
def test_a_server_step_that_is_not_finite_is_never_published(world, on_all_ranks, run_dir, collective):
    """A step size beyond float32: the first model stays, and the third such round is the last one."""
    config = _config(
        run_dir,
        "ppo",
        {"aggregation.server.lr": "1e39"},
        comm__collective=collective,
        checkpoint__every="1",
    )
    on_all_ranks(run_to_end(world, config) == 1)
    on_all_ranks(CheckpointStore(f"{run_dir}/run", 9).rounds() == [1, 2, 3])
    on_all_ranks(np.array_equal(model_of(config, 3), oracle(config, world.num_agents, rounds=0)))
