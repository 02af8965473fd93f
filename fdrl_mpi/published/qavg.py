"""QAvg on random processes and on the windy cliff: exact sweeps, so every digit must come out."""

from collections.abc import Iterator

import numpy as np

from fdrl_mpi.arrays import DoubleArray
from fdrl_mpi.envs.random_mdp import RandomMDP
from fdrl_mpi.envs.windy_cliff import WindyCliff, windy_cliff_instance, windy_cliff_kernel
from fdrl_mpi.published.experiment import Comparison, Experiment, Laboratory, near
from fdrl_mpi.rl.q_averaging import mean_return

PAPER = (
    'Jin, Peng, Yang, Wang and Zhang, "Federated Reinforcement Learning with Environment Heterogeneity", '
    "AISTATS 2022, arXiv 2204.02634"
)
NUM_AGENTS, TOTAL_SWEEPS, GAMMA = 5, 128, 0.9
SHIFT = 0.5 / (1.0 - GAMMA)
"""The authors' scripts take it off every return."""
KAPPAS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
TABLE_1 = {
    (0, 1): (4.54384747, 4.54384747, 4.54384747, 4.54384747, 4.44225587, 4.44225587),
    (1, 1): (2.52031079, 2.39990207, 2.39990207, 2.39990207, 2.39990207, 1.94230082),
    (1, 32): (2.39990207, 2.39990207, 2.39990207, 2.39990207, 2.39990207, 1.94230082),
    (2, 1): (3.85328663,) * 6,
}
"""(run, sweeps of a round): return on the centre's kernel for each kappa, by the authors' own program."""
MEANS = (3.811953, 3.796202, 3.776946, 3.776039, 3.688694, 3.627328)
"""Means over runs 0 to 9 with one sweep a round."""
COLLECTIVES = ("allreduce", "node", "tree")


def random_processes(laboratory: Laboratory) -> list[Comparison]:
    """Every listed return to 1e-6 and, in full, the means over ten runs to 1e-5, over all collectives.

    Agents hold one kernel each, and average tables of float32; a sum in another order could tip an argmax
    between equal entries, so returns are compared, not policies.
    """
    found, turn = [], 0
    for (run, sweeps), returns in TABLE_1.items():
        for kappa, published in zip(KAPPAS, returns, strict=True):
            collective = COLLECTIVES[turn % len(COLLECTIVES)]
            turn += 1
            ours = _centre_return(laboratory, run, kappa, sweeps, collective)
            quantity = f"run {run}, E = {sweeps}, kappa = {kappa}, {collective}"
            found.append(near(quantity, published, ours, 1e-6))
    if laboratory.is_full:
        for kappa, published in zip(KAPPAS, MEANS, strict=True):
            mean = np.mean([_centre_return(laboratory, run, kappa, 1, "node") for run in range(10)])
            found.append(near(f"mean of runs 0 to 9, kappa = {kappa}", published, float(mean), 1e-5))
    return found


def _centre_return(laboratory: Laboratory, run: int, kappa: float, sweeps: int, collective: str) -> float:
    settings = {
        "environment.id": "RandomMDP",
        "environment.num_envs": "1",
        "environment.kwargs": f"{{run = {run}, kappa = {kappa}}}",
        "environment.heterogeneity": '{kernel = {distribution = "listed", values = [0, 1, 2, 3, 4]}}',
        "learner.name": "q_averaging",
        "learner.gamma": str(GAMMA),
        "learner.budget": str(sweeps),
        "rounds": str(TOTAL_SWEEPS // sweeps),
        "aggregation.weighting": "uniform",
        "comm.collective": collective,
        "evaluation.every": "1000",
        "checkpoint.every": "1000",
    }
    result = laboratory.train("qavg", NUM_AGENTS, settings)
    if result is None or result.policies.shared is None:
        return np.nan
    centre = RandomMDP([{"kernel": 0.0}], run=run, kappa=kappa)
    table = result.policies.shared.reshape(5, 5)
    return mean_return(table, centre.kernels, centre, GAMMA) - SHIFT


def windy_cliff(laboratory: Laboratory) -> list[Comparison]:
    """The program against the text's algorithm in one process, and the paper's claim about unseen winds.

    No printed return of this variant exists; the published draws fix every number of it.
    """
    found = []
    for run in range(10 if laboratory.is_full else 2):
        instance = windy_cliff_instance(run)
        cliff = WindyCliff([{"wind": 0.0}], run=run)
        unseen = np.array([windy_cliff_kernel(float(wind)) for wind in instance.test_winds])
        returns = {}
        for mode in ("federated", "independent"):
            result = laboratory.train("windy", NUM_AGENTS, _cliff_settings(run, mode, instance.train_winds))
            if result is None:
                continue
            shared, own = result.policies.shared, result.policies.own
            tables = own if shared is None else [shared]
            returns[mode] = np.mean(
                [mean_return(table.reshape(16, 4), unseen, cliff, CLIFF_GAMMA) for table in tables]
            )
        if returns:
            expected = mean_return(_averaged_tables(cliff), unseen, cliff, CLIFF_GAMMA)
            ours = float(returns["federated"])
            found.append(near(f"run {run}: return in unseen winds", expected, ours, 1e-3 * abs(expected)))
            gain = ours - float(returns["independent"])
            found.append(Comparison(f"run {run}: gain over agents alone", None, gain, -1e-6, np.inf))
    return found


CLIFF_GAMMA, CLIFF_LR, CLIFF_DECAY, CLIFF_SWEEPS = 0.95, 1e-3, 0.1, 640


def _cliff_settings(run: int, mode: str, winds: DoubleArray) -> dict[str, str]:
    return {
        "mode": mode,
        "environment.id": "WindyCliff",
        "environment.num_envs": "1",
        "environment.kwargs": f"{{run = {run}}}",
        "environment.heterogeneity": f'{{wind = {{distribution = "listed", values = {winds.tolist()}}}}}',
        "learner.name": "q_averaging",
        "learner.gamma": str(CLIFF_GAMMA),
        "learner.lr": str(CLIFF_LR),
        "learner.plateau_decay": str(CLIFF_DECAY),
        "learner.budget": "8",
        "rounds": str(CLIFF_SWEEPS // 8),
        "aggregation.weighting": "uniform",
        "evaluation.every": "1000",
        "checkpoint.every": "1000",
    }


def _averaged_tables(cliff: WindyCliff) -> DoubleArray:
    """Make the run in this process, in double precision, as the protocol's text says."""
    table, rewards, lr = cliff.initial_values.copy(), cliff.rewards_table, CLIFF_LR
    objectives: list[float] = []
    for number in range(CLIFF_SWEEPS // 8):
        if number > 2 and objectives[-1] - objectives[-2] < 1e-3 * objectives[-2]:
            lr *= CLIFF_DECAY
        table = np.mean([_swept(table, kernel, rewards, lr) for kernel in cliff.train_kernels], axis=0)
        objectives.append(mean_return(table, cliff.train_kernels, cliff, CLIFF_GAMMA))
    return table


def _swept(table: DoubleArray, kernel: DoubleArray, rewards: DoubleArray, lr: float) -> DoubleArray:
    values = table.max(axis=1)
    for _ in range(8):
        values = (1.0 - lr) * values + lr * (rewards + CLIFF_GAMMA * kernel @ values).max(axis=1)
    swept: DoubleArray = rewards + CLIFF_GAMMA * kernel @ values
    return swept


def experiments() -> Iterator[Experiment]:
    """List the experiments of this file."""
    yield Experiment(
        "qavg", "QAvg on random processes, table 1", PAPER, NUM_AGENTS + 1, (0.5, 1.5), random_processes
    )
    yield Experiment("windy-cliff", "QAvg on the windy cliff", PAPER, NUM_AGENTS + 1, (0.1, 0.3), windy_cliff)
