"""Learners made as a run makes them, for tests of all of them."""

import numpy as np

from fdrl_mpi.build_agent import make_environment, make_model
from fdrl_mpi.build_agent import make_learner as learner_of
from fdrl_mpi.config import Config
from fdrl_mpi.config_file import read
from fdrl_mpi.rl.learner import Budget, Learner
from fdrl_mpi.rl.objective import LocalObjective
from fdrl_mpi.streams import stream


def make_learner(
    overrides: dict[str, str], engine: str = "numpy", **objective: float
) -> tuple[Config, Learner]:
    """Make the learner of one agent in the default world."""
    config = read([], [("environment.heterogeneity", "{}"), *overrides.items()])
    environment = make_environment(config.environment, [{}] * config.environment.num_envs)
    model = make_model(config.learner, config.seed, environment, engine, "cpu")
    return config, learner_of(config.learner, model, environment, LocalObjective(**objective))


def budget(config: Config, round: int, work: int = 0) -> Budget:
    """Give a round's budget, with the stream that belongs to it."""
    return Budget(work or config.learner.budget, config.learner.lr, stream(config.seed, "train", 1, round))


def flat(state: dict, path: str = "") -> dict[str, np.ndarray]:
    """List the leaves of a state by their paths."""
    leaves: dict[str, np.ndarray] = {}
    for name, value in state.items():
        if isinstance(value, dict):
            leaves |= flat(value, f"{path}{name}.")
        else:
            leaves[path + name] = np.asarray(value)
    return leaves


def check_resume(overrides: dict[str, str], engine: str) -> Learner:
    """Train for two rounds, go on from the state, and for two more with both; return the unbroken learner."""
    config, unbroken = make_learner(overrides, engine)
    _, resumed = make_learner(overrides, engine)
    for round in (1, 2):
        unbroken.train(budget(config, round))
    resumed.set_state(unbroken.get_state())
    for learner in (unbroken, resumed):
        for round in (3, 4):
            learner.train(budget(config, round))
    ours, theirs = flat(unbroken.get_state()), flat(resumed.get_state())
    assert ours.keys() == theirs.keys()
    for path, leaf in ours.items():
        np.testing.assert_array_equal(leaf, theirs[path], err_msg=path)
    return unbroken
