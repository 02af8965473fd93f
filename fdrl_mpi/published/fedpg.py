"""FedPG: policy gradients of many agents, and a root that corrects their mean by episodes of its own."""

from collections.abc import Iterator
from math import inf

import numpy as np

from fdrl_mpi.arrays import DoubleArray
from fdrl_mpi.published.experiment import Comparison, Experiment, Laboratory, Result

PAPER = (
    'Fan et al., "Fault-Tolerant Federated Reinforcement Learning with Theoretical Guarantee", NeurIPS 2021, '
    "arXiv 2110.14074, figure 1 (CartPole, no attack)"
)
LARGE, SMALL = 16, 4
"""Episodes of an agent's gradient, and of the root's inner steps."""
SETTINGS = {
    "environment.heterogeneity": "{}",
    "learner.gamma": "0.999",
    "learner.horizon": "500",
    "learner.lr": "0.001",
    "learner.budget": str(LARGE),
    "learner.batch_episodes": str(LARGE),
    "learner.baseline": "episode",
    "learner.network.hidden": "[16, 16]",
    "learner.network.activation": "relu",
    "learner.network.initialisation": "uniform",
    "learner.network.bounded": "true",
    "aggregation.weighting": "uniform",
    "evaluation.every": "1",
    "checkpoint.every": "1000",
}
CURVES = {
    "GPOMDP, 1 agent": {500: 24, 750: 37, 1000: 51},
    "SVRPG, 1 agent": {500: 39, 750: 73, 1000: 142},
    "FedPG, 1 agent": {500: 56, 750: 113, 1000: 175},
    "FedPG, 3 agents": {500: 313, 750: 447, 1000: 478},
}
"""Returns read off the raster figure (to about 10) by episodes of each agent."""
LEARNT = 20.0
"""Twice the return of a policy that has not learnt."""


def conduct(laboratory: Laboratory) -> list[Comparison]:
    """The speed-up in the number of agents.

    Seeds of three agents deviate by about 100 from their mean: it may be 200 below the figure and 150 above.
    Single agents rise later than there, and some seeds have not yet begun to at the first two points, where
    nothing is asked of them; at the last one they must have learnt.

    The agents' batches have 16 episodes here, and from 12 to 20 there. Biases start within 1 / sqrt(inputs),
    there within 1 / sqrt(outputs).
    """
    seeds = range(10 if laboratory.is_full else 3)
    limit = 1100
    curves = {
        "GPOMDP, 1 agent": [_alone(laboratory, "reinforce", seed, limit) for seed in seeds],
        "SVRPG, 1 agent": [_alone(laboratory, "svrpg", seed, limit, "3") for seed in seeds],
        "FedPG, 1 agent": [_alone(laboratory, "svrpg", seed, limit, "0") for seed in seeds],
        "FedPG, 3 agents": [_together(laboratory, 3, seed, limit) for seed in seeds],
        "FedPG, 10 agents": [_together(laboratory, 10, seed, limit) for seed in seeds],
    }
    at = {name: _means(found, (500, 750, 1000)) for name, found in curves.items()}
    found = [
        Comparison(
            f"{name}: return at {episodes} episodes", theirs, at[name][episodes], *_allowed(name, episodes)
        )
        for name, curve in CURVES.items()
        for episodes, theirs in curve.items()
    ]
    ten, three, one = (at[f"FedPG, {agents}"] for agents in ("10 agents", "3 agents", "1 agent"))
    return [
        *found,
        Comparison("FedPG, 10 agents: return at 500 episodes", None, ten[500], 3.0 * one[500], 500.0),
        Comparison("FedPG, 10 agents: return at 750 episodes", None, ten[750], 400.0, 500.0),
        Comparison("FedPG, 10 agents: return at 1000 episodes", None, ten[1000], 440.0, 500.0),
        Comparison("gain of 3 agents over 1 at 750 episodes", 334.0, three[750] - one[750], 100.0, inf),
    ]


def _allowed(name: str, episodes: int) -> tuple[float, float]:
    """Say between which returns ours may lie, for a point of the figure."""
    theirs = float(CURVES[name][episodes])
    if name == "FedPG, 3 agents":
        return theirs - 200.0, theirs + 150.0
    return (LEARNT, theirs + 150.0) if episodes == 1000 else (-inf, inf)


def _alone(laboratory: Laboratory, learner: str, seed: int, limit: int, inner_steps: str = "") -> DoubleArray:
    """Return (episodes, return) of one agent's rounds, shape (rounds, 2)."""
    own = {"learner.name": learner, "seed": str(seed), "evaluation.episodes": "10"}
    own["environment.num_envs"] = str(SMALL if inner_steps else LARGE)
    own["rounds"] = str(limit // (LARGE + (3 * SMALL if inner_steps else 0)))
    if inner_steps:
        own |= {
            "learner.inner_steps": inner_steps,
            "learner.importance": "step",
            "learner.ratio_range": "0.005",
        }
    result = laboratory.train("alone", 1, SETTINGS | own)
    if result is None:
        return np.zeros((0, 2))
    return _curve(result, result.metrics.values["num_episodes"].sum(axis=1))


def _together(laboratory: Laboratory, agents: int, seed: int, limit: int) -> DoubleArray:
    own = {
        "learner.name": "reinforce",
        "seed": str(seed),
        "rounds": str(limit // LARGE),
        "environment.num_envs": str(LARGE),
        "evaluation.episodes": str(-(-10 // agents)),
        "aggregation.update_kind": "gradient",
        "aggregation.server.name": "fedpg",
        "aggregation.server.lr": "0.001",
        "aggregation.server.num_envs": str(SMALL),
        "comm.collective": "tree",
    }
    result = laboratory.train("together", agents, SETTINGS | own)
    if result is None:
        return np.zeros((0, 2))
    episodes = (LARGE * agents + result.metrics.values["server_episodes"]) / (1 + agents)
    return _curve(result, episodes)


def _curve(result: Result, episodes: DoubleArray) -> DoubleArray:
    returns = result.metrics.values["evaluation_return"].mean(axis=1)
    return np.stack([np.cumsum(episodes), returns], axis=1)


def _means(curves: list[DoubleArray], episodes: tuple[int, ...]) -> dict[int, float]:
    """Average the curves at some numbers of episodes."""
    if not len(curves[0]):
        return dict.fromkeys(episodes, 0.0)
    return {
        count: float(np.mean([np.interp(count, curve[:, 0], curve[:, 1]) for curve in curves]))
        for count in episodes
    }


def experiments() -> Iterator[Experiment]:
    """List the experiments of this file."""
    yield Experiment("fedpg", "FedPG on CartPole: the speed-up in agents", PAPER, 11, (1.5, 5.0), conduct)
