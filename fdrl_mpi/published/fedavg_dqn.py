"""Three agents' deep Q-networks, averaged by their newest returns, beside one agent alone."""

from collections.abc import Iterator
from math import inf

import numpy as np

from fdrl_mpi.published.experiment import Comparison, Experiment, Laboratory

PAPER = "TroddenSpade, Federated-DRL, 2022 (a program without a paper): main-cart.py"
NUM_AGENTS, STEPS_OF_A_ROUND, ROUNDS = 3, 30, 2000
SETTINGS = {
    "environment.heterogeneity": "{}",
    "environment.num_envs": "1",
    "learner.name": "dqn",
    "learner.budget": str(STEPS_OF_A_ROUND),
    "learner.gamma": "0.99",
    "learner.lr": "0.0005",
    "learner.batch_size": "64",
    "learner.buffer_size": "50000",
    "learner.learning_starts": "64",
    "learner.train_every": "1",
    "learner.target_every": "15",
    "learner.epsilon_end": "0.1",
    "learner.epsilon_steps": "2000",
    "learner.federate_target": "true",
    "learner.network.hidden": "[512, 128]",
    "evaluation.every": "1",
    "evaluation.episodes": "1",
    "checkpoint.every": "100000",
}


def conduct(laboratory: Laboratory) -> list[Comparison]:
    """The claim: federated agents end higher than one alone with as many steps of its own.

    Their curves are of the target network, which here equals the network at the end of every round. The same
    program's LunarLander is left out: it weighs agents by returns that are negative there. The gain alone
    decides: 26 in three repetitions, 358.8 against 332.8.
    """
    repetitions = 10 if laboratory.is_full else 3
    means = {}
    for name, agents, own in (
        ("federated", NUM_AGENTS, {"aggregation.weighting": "returns"}),
        ("alone", 1, {"mode": "independent"}),
    ):
        tails = []
        for seed in range(repetitions):
            settings = SETTINGS | own | {"seed": str(seed), "rounds": str(ROUNDS)}
            result = laboratory.train(f"dqn_{name}", agents, settings)
            if result is not None:
                played = result.metrics.values["evaluation_return"].mean(axis=1)
                tails.append(played[-ROUNDS // 5 :].mean())
        means[name] = float(np.mean(tails)) if tails else np.nan
    gain = means["federated"] - means["alone"]
    return [
        Comparison("federated: return of the last fifth", None, means["federated"]),
        Comparison("gain by federation", None, gain, 10.0, inf),
    ]


def experiments() -> Iterator[Experiment]:
    """List the experiments of this file."""
    yield Experiment(
        "fedavg-dqn", "FedAvg of deep Q-networks, by returns", PAPER, NUM_AGENTS + 1, (15.0, 50.0), conduct
    )
