"""Small runs of all ranks of a job, what they leave, and what one process makes of the same configuration."""

from collections.abc import Collection

import numpy as np

from fdrl_mpi.aggregation.weighting import WEIGHTINGS
from fdrl_mpi.build import make_aggregator, make_participant, make_plan, make_server, make_wire
from fdrl_mpi.build_agent import draw_worlds, make_environment, make_model
from fdrl_mpi.comm.world import World
from fdrl_mpi.config import Config
from fdrl_mpi.config_file import read
from fdrl_mpi.federation.interrupt import Interrupt
from fdrl_mpi.federation.reference import reference_round
from fdrl_mpi.record.checkpoint import CheckpointStore
from fdrl_mpi.session import Session

SMALL = {
    "rounds": "4",
    "environment.num_envs": "2",
    "learner.budget": "64",
    "learner.num_steps": "16",
    "learner.num_minibatches": "2",
    "learner.network.hidden": "[8, 8]",
    "evaluation.every": "2",
    "evaluation.episodes": "1",
    "checkpoint.every": "2",
    "log.progress": "none",
}


def config_of(run_dir: str, dropped: Collection[str] = (), **changes: str) -> Config:
    """Change the small run; `dropped` are keys of it that the chosen learner does not have."""
    named = {key.replace("__", "."): value for key, value in changes.items()}
    small = {key: value for key, value in SMALL.items() if key not in dropped}
    return read([], list((small | {"run.dir": run_dir, "run.name": "run"} | named).items()))


def run_to_end(world, config: Config) -> int:
    status = Session(config, World(world.comm, config.agents_per_rank)).run(Interrupt())
    world.barrier()
    return status


def state_of(config: Config, round: int, rank: int) -> dict:
    store = CheckpointStore(f"{config.run.dir}/{config.run.name}", 9)
    return store.load(round, store.file_for(rank))


def model_of(config: Config, round: int) -> np.ndarray:
    return state_of(config, round, 0)["params"]


def flat(state: dict, path: str = "") -> dict:
    items = {}
    for name, value in state.items():
        items |= flat(value, f"{path}/{name}") if isinstance(value, dict) else {f"{path}/{name}": value}
    return items


def different(a: dict, b: dict) -> list[str]:
    a, b = flat(a), flat(b)
    return [
        name
        for name in a.keys() | b.keys()
        if name not in a or name not in b or not np.array_equal(a[name], b[name])
    ]


def oracle(config: Config, num_agents: int) -> np.ndarray:
    """Make the run in this process; return what is published last."""
    environments = {
        agent: make_environment(config.environment, [context] * config.environment.num_envs)
        for agent, context in enumerate(draw_worlds(config, num_agents), 1)
    }
    model = make_model(config.learner, config.seed, environments[1], "numpy", "cpu")
    wire, plan = make_wire(config, model), make_plan(config, num_agents)
    participants = {
        agent: make_participant(config, wire, environment, "numpy", "cpu", np.zeros(wire.length, np.float32))
        for agent, environment in environments.items()
    }
    params, server = wire.first(model.params), make_server(config, wire, num_agents)
    for round in range(1, config.rounds + 1):
        params = reference_round(
            participants,
            params,
            round,
            plan.participation,
            plan.schedule,
            WEIGHTINGS[config.aggregation.weighting],
            make_aggregator(config, wire),
            server,
        )
    return params
