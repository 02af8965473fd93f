"""Small runs of all ranks of a job, and what they leave."""

from collections.abc import Collection

import numpy as np

from fdrl_mpi.comm.world import World
from fdrl_mpi.config import Config
from fdrl_mpi.config_file import read
from fdrl_mpi.federation.interrupt import Interrupt
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
    status = Session(config, World(world.comm, config.agents_per_rank, num_agents=config.agents)).run(
        Interrupt()
    )
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
