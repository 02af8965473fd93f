"""Agents of a rank that train together: equal to one process that trains them in turn, and resumable."""

import numpy as np
import pytest
from oracle import oracle
from runs import config_of, different, model_of, run_to_end, state_of

from fdrl_mpi.comm.world import World
from fdrl_mpi.federation.interrupt import Interrupt
from fdrl_mpi.record.metrics_file import read_metrics
from fdrl_mpi.session import Session

pytestmark = pytest.mark.mpi(min_size=2)

LEARNERS = {
    "ppo": {},
    "a2c": {"learner.budget": "40"},
    "dqn": {
        "learner.budget": "80",
        "learner.learning_starts": "40",
        "learner.batch_size": "16",
        "learner.buffer_size": "200",
        "learner.target_every": "50",
        "learner.federate_target": "true",
    },
    "reinforce": {"learner.budget": "4", "learner.batch_episodes": "2"},
    "q_learning on torch": {
        "learner.engine": "torch",
        "environment.id": "RandomMDP",
        "learner.gamma": "0.9",
        "learner.budget": "100",
    },
    "ppo on torch": {"learner.engine": "torch"},
    "a2c on torch": {"learner.engine": "torch", "learner.budget": "40"},
    "dqn on torch": {
        "learner.engine": "torch",
        "learner.budget": "80",
        "learner.learning_starts": "40",
        "learner.batch_size": "16",
        "learner.buffer_size": "200",
        "learner.target_every": "50",
    },
    "reinforce on torch": {"learner.engine": "torch", "learner.budget": "4", "learner.batch_episodes": "2"},
    "q_learning": {"environment.id": "RandomMDP", "learner.gamma": "0.9", "learner.budget": "100"},
}
OF_PPO = ("learner.num_steps", "learner.num_minibatches")
OF_NETWORKS = ("learner.network.hidden",)


def _config(run_dir: str, learner: str, **more: str):
    name = learner.partition(" ")[0]
    chosen = {"learner.name": name, "agents_per_rank": "3", **LEARNERS[learner]}
    dropped = {
        "ppo": (),
        "q_learning": (*OF_PPO, *OF_NETWORKS),
    }.get(name, OF_PPO)
    named = {key.replace(".", "__"): value for key, value in chosen.items()}
    return config_of(run_dir, dropped, environment__heterogeneity="{}", **named | more)


def _near(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Float32 rounding, after few steps that no choice of an action has driven apart."""
    return np.allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def _num_agents(world) -> int:
    return 3 * (world.size - 1)


@pytest.mark.parametrize("fraction", ["1.0", "0.5"])
@pytest.mark.parametrize("learner", LEARNERS)
def test_agents_of_a_rank_that_train_together_equal_the_oracle(
    world, on_all_ranks, run_dir, learner, fraction
):
    config = _config(run_dir, learner, participation__fraction=fraction, comm__collective="node")
    session = Session(config, World(world.comm, 3))
    on_all_ranks(session.rank.trains == "; agents of a rank train together", session.rank.trains)
    on_all_ranks(run_to_end(world, config) == 0)
    on_all_ranks(_near(model_of(config, 4), oracle(config, _num_agents(world))))


@pytest.mark.parametrize("learner", LEARNERS)
def test_resumed_run_of_teams_equals_unbroken_run(world, on_all_ranks, run_dir, learner):
    changes = {"participation__fraction": "0.7", "mode": "independent"}
    first = _config(run_dir, learner, **changes, run__name="broken", rounds="2")
    broken, unbroken = (
        _config(run_dir, learner, **changes, run__name=name) for name in ("broken", "unbroken")
    )
    for config in (first, broken, unbroken):
        on_all_ranks(run_to_end(world, config) == 0)
    for agent in range(1, _num_agents(world) + 1):
        differences = different(state_of(broken, 4, agent), state_of(unbroken, 4, agent))
        on_all_ranks(not differences, str(differences))


def test_an_update_of_a_team_that_is_not_finite_is_left_out(world, on_all_ranks, run_dir):
    config = _config(run_dir, "ppo", rounds="2", comm__collective="node")
    session = Session(config, World(world.comm, 3))
    if world.rank == 1:
        learner = session.rank.parts.participants[2].learner
        set_state = learner.set_state

        def spoil(state):
            set_state(state)
            learner.params[0] = np.nan

        learner.set_state = spoil
    on_all_ranks(session.run(Interrupt()) == 0)
    on_all_ranks(np.isfinite(model_of(config, 2)).all())
    if world.is_root:
        values = read_metrics(f"{run_dir}/run/metrics.h5").values
        on_all_ranks(np.flatnonzero(values["rejected"][1] == 1.0).tolist() == [1])
    else:
        on_all_ranks(True)
