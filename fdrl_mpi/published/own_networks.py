"""Ten agents with ten networks that learn alone: REINFORCE, whole runs of training returns."""

from collections.abc import Iterator

import numpy as np

from fdrl_mpi.published.experiment import Comparison, Experiment, Laboratory, near

PAPER = (
    "Jiang et al., FedHPD, AAMAS 2025, arXiv 2502.00870: the arm without federation (the program's records)"
)
NETWORKS = (
    ("[128]", "relu", 1e-3),
    ("[32, 32]", "relu", 2e-3),
    ("[16, 16, 32]", "tanh", 4e-3),
    ("[8, 8, 8]", "relu", 5e-4),
    ("[32, 32, 32]", "tanh", 3e-3),
    ("[8, 8]", "relu", 7e-4),
    ("[64, 64]", "tanh", 1e-3),
    ("[16, 16]", "relu", 5e-4),
    ("[16, 32, 16]", "tanh", 5e-4),
    ("[32]", "relu", 8e-4),
)
"""Hidden layers, activation and step size of each agent."""
EPISODES, EPISODES_OF_A_ROUND, SEEDS = 2000, 100, (20, 25, 30, 35, 40)
PUBLISHED, TOLERANCE = 258.0, 25.0
ONE_SEED = 40.0
"""Tolerance of a single seed, whose ten agents scatter by 30."""


def conduct(laboratory: Laboratory) -> list[Comparison]:
    """The mean training return over the run and the agents, to the spread between seeds.

    A round is as long as their step size stays: it falls by a twentieth after it.
    """
    seeds = SEEDS if laboratory.is_full else SEEDS[:1]
    means = []
    for hidden, activation, lr in NETWORKS:
        for seed in seeds:
            settings = {
                "seed": str(seed),
                "rounds": str(EPISODES // EPISODES_OF_A_ROUND),
                "mode": "independent",
                "environment.heterogeneity": "{}",
                "environment.num_envs": "1",
                "learner.name": "reinforce",
                "learner.budget": str(EPISODES_OF_A_ROUND),
                "learner.batch_episodes": "1",
                "learner.gamma": "0.99",
                "learner.lr": str(lr),
                "learner.lr_decay": "0.95",
                "learner.baseline": "episode",
                "learner.mean_over": "episodes",
                "learner.network.hidden": hidden,
                "learner.network.activation": activation,
                "learner.network.initialisation": "uniform",
                "evaluation.every": "1000",
                "checkpoint.every": "1000",
            }
            result = laboratory.train("own_network", 1, settings)
            if result is not None:
                means.append(float(result.metrics.values["train_return"].mean()))
    mean = float(np.mean(means)) if means else np.nan
    tolerance = TOLERANCE if laboratory.is_full else ONE_SEED
    return [near("mean return over 2000 episodes and 10 agents", PUBLISHED, mean, tolerance)]


def experiments() -> Iterator[Experiment]:
    """List the experiments of this file."""
    yield Experiment("own-networks", "REINFORCE with ten networks, alone", PAPER, 2, (2.5, 12.0), conduct)
