"""Federated TD(0) where agents' processes differ."""

from collections.abc import Iterator
from math import inf

import numpy as np

from fdrl_mpi.published.experiment import Comparison, Experiment, Laboratory

PAPER = "Beikmohammadi, Khirirat, Richtárik and Magnússon, ECML-PKDD 2025"
LOCAL_STEPS, ROUNDS = 5, 2000
TAIL_MEANS = {
    (1, 0.0): (0.032375, 0.040488, 0.070671),
    (5, 0.0): (0.018865, 0.017873, 0.016100),
    (10, 0.0): (0.010260, 0.011301, 0.011290),
    (10, 0.1): (0.016427, 0.012291, 0.014224),
}
"""(agents, delta): mean error over the last fifth of the rounds, seeds 0 to 2, by their program."""
BAND = 1.6
"""Factor between ours and theirs: agents draw from streams of their own here, and share one there."""


def conduct(laboratory: Laboratory) -> list[Comparison]:
    """Tail errors within the band, the speed-up in the number of agents, and the order in delta."""
    seeds = (0, 1, 2) if laboratory.is_full else (0,)
    found, errors = [], {}
    for (agents, delta), published in TAIL_MEANS.items():
        tails = [_tail(laboratory, agents, delta, seed) for seed in seeds]
        errors[agents, delta] = float(np.mean(tails))
        theirs = float(np.mean(published))
        found.append(
            Comparison(
                f"{agents} agents, delta = {delta}: tail error",
                theirs,
                errors[agents, delta],
                min(published) / BAND,
                max(published) * BAND,
            )
        )
    alone, together = errors[1, 0.0], errors[10, 0.0]
    ratio = (alone / together) ** 2
    found.append(Comparison("squared error of 1 agent over that of 10", None, ratio, 5.0, 30.0))
    growth = errors[10, 0.1] / together
    found.append(Comparison("error with delta = 0.1 over that without", None, growth, 1.0, inf))
    return found


def _tail(laboratory: Laboratory, agents: int, delta: float, seed: int) -> float:
    process = f"seed = {seed}, num_states = 10, num_agents = {agents}, delta = {delta}, max_episode_steps = 1"
    numbers = list(range(1, agents + 1))
    settings = {
        "seed": str(seed),
        "environment.id": "RewardProcess",
        "environment.num_envs": "1",
        "environment.kwargs": f"{{{process}}}",
        "environment.heterogeneity": f'{{agent = {{distribution = "listed", values = {numbers}}}}}',
        "learner.name": "td",
        "learner.gamma": "0.8",
        "learner.lr": "0.05",
        "learner.budget": str(LOCAL_STEPS),
        "rounds": str(ROUNDS),
        "agents_per_rank": str(agents),
        "aggregation.weighting": "uniform",
        "evaluation.every": str(ROUNDS),
        "checkpoint.every": str(ROUNDS),
    }
    result = laboratory.train("fedtd", 1, settings)
    if result is None:
        return np.nan
    return float(result.metrics.values["table_error"][-ROUNDS // 5 :].mean())


def experiments() -> Iterator[Experiment]:
    """List the experiments of this file."""
    yield Experiment("fedtd", "FedTD(0) with model mismatch", PAPER, 2, (1.0, 3.0), conduct)
