"""Averaging tables equally, and by how often each agent has visited each entry."""

from collections.abc import Iterator
from math import inf

import numpy as np

from fdrl_mpi.arrays import DoubleArray
from fdrl_mpi.published.experiment import Comparison, Experiment, Laboratory

PAPER = (
    'Woo, Joshi and Chi, "The Blessing of Heterogeneity in Federated Q-Learning: Linear Speedup and Beyond", '
    "ICML 2023, arXiv 2305.10697"
)
NUM_AGENTS, AGENTS_PER_RANK, LOCAL_STEPS = 20, 10, 50
GOAL = 0.25
"""Normalised error that both methods reach."""


def conduct(laboratory: Laboratory) -> list[Comparison]:
    """The paper's claim: importance averaging needs far fewer samples.

    Two agents of three see no more than two of the forty entries; the paper prints curves, no numbers.
    """
    seeds = range(20 if laboratory.is_full else 5)
    rounds = 121
    equal = np.mean([_errors(laboratory, "uniform", seed, rounds) for seed in seeds], axis=0)
    weighted = np.mean([_errors(laboratory, "visits", seed, rounds) for seed in seeds], axis=0)
    first = [_steps_to_goal(curve) for curve in (weighted, equal)]
    ratio = first[1] / first[0] if first[0] else np.nan
    at_500 = 500 // LOCAL_STEPS
    return [
        Comparison(f"steps to error {GOAL}, importance averaging", None, first[0], LOCAL_STEPS, 1500.0),
        Comparison("times as many with equal averaging", None, ratio, 3.0, inf),
        Comparison("error at 500 steps, equal averaging", None, float(equal[at_500]), 0.30, 0.48),
        Comparison("error at 500 steps, importance averaging", None, float(weighted[at_500]), 0.18, 0.32),
    ]


def _steps_to_goal(curve: DoubleArray) -> float:
    """Count an agent's steps before the first error below the goal; infinite if there is none."""
    below = np.flatnonzero(curve < GOAL)
    return float(below[0] * LOCAL_STEPS) if below.size else inf


def _errors(laboratory: Laboratory, weighting: str, seed: int, rounds: int) -> DoubleArray:
    """Return the normalised error before each round, shape (rounds,)."""
    actions = list(range(NUM_AGENTS))
    settings = {
        "seed": str(seed),
        "environment.id": "TwoState",
        "environment.num_envs": "1",
        "environment.kwargs": f"{{num_actions = {NUM_AGENTS}, seed = {seed}, max_episode_steps = 1000}}",
        "environment.heterogeneity": f'{{action = {{distribution = "listed", values = {actions}}}}}',
        "learner.name": "q_learning",
        "learner.behaviour": "fixed",
        "learner.gamma": "0.9",
        "learner.lr": "0.2",
        "learner.budget": str(LOCAL_STEPS),
        "rounds": str(rounds),
        "agents_per_rank": str(AGENTS_PER_RANK),
        "aggregation.weighting": weighting,
        "evaluation.every": "1000",
        "evaluation.episodes": "1",
        "checkpoint.every": "1000",
    }
    result = laboratory.train(f"importance_{weighting}", NUM_AGENTS // AGENTS_PER_RANK, settings)
    if result is None:
        return np.full(rounds, np.nan)
    errors: DoubleArray = result.metrics.values["table_error"].mean(axis=1)
    return errors


def experiments() -> Iterator[Experiment]:
    """List the experiments of this file."""
    yield Experiment(
        "importance", "equal and importance averaging of Q-tables", PAPER, 3, (0.7, 2.5), conduct
    )
