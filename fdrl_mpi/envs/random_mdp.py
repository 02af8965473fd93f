"""Random MDPs whose kernels lie around a common centre, as drawn for QAvg's table of heterogeneity."""

from typing import ClassVar, NamedTuple

import numpy as np

from fdrl_mpi.arrays import DoubleArray
from fdrl_mpi.envs.contexts import ContextParameter, Contexts, context_columns
from fdrl_mpi.envs.finite_mdp import FiniteMDP, distinct_worlds, normalised_rows

NUM_STATES = 5
NUM_ACTIONS = 5
NUM_TRAIN = 5
NUM_TEST = 20
NUM_KERNELS = NUM_TRAIN + NUM_TEST
NUM_RUNS = 16_000
_SEED = 101
_TABLE = (NUM_STATES, NUM_ACTIONS)
_ROWS = (NUM_STATES * NUM_ACTIONS, NUM_STATES)


class RandomMDPInstance(NamedTuple):
    """What one run of the published experiment draws.

    Attributes
    ----------
    kernels : float64 array, shape (25, 5, 5, 5)
        ``P(t|s, a)`` of the centre, of the other 4 training worlds and of the 20 test worlds.
    rewards : float64 array, shape (5, 5)
        In [0, 1), the same in all worlds.
    initial_values : float64 array, shape (5, 5)
        First Q-table of the run, in [0, 1).
    """

    kernels: DoubleArray
    rewards: DoubleArray
    initial_values: DoubleArray


class RandomMDP(FiniteMDP):
    """5 states, 5 actions; worlds at distance `kappa` from a common one.

    Parameters
    ----------
    contexts : sequence of mappings
        ``kernel``, one per environment.
    run : int
        Which of the 16 000 published instances.
    kappa : float
        Heterogeneity in [0, 1]: 0 makes all worlds the centre, 1 makes them lead where the centre never does.
    max_episode_steps : int
        Time limit; the published experiment has none, and samples nothing.

    Attributes
    ----------
    initial_values : float64 array, shape (5, 5)
        First Q-table of the run.
    train_kernels : float64 array, shape (5, 5, 5, 5)
        Of the worlds for training, whose mean return the published step size depends on.

    References
    ----------
    Jin, Peng, Yang, Wang and Zhang, "Federated Reinforcement Learning with Environment Heterogeneity",
    AISTATS 2022, table 1.
    """

    environment_id = "RandomMDP"
    context_table: ClassVar[dict[str, ContextParameter]] = {
        "kernel": ContextParameter(
            0.0,
            "-",
            "number of the world: 0 the centre, to 4 for training, from 5 for tests",
            low=0.0,
            high=NUM_KERNELS - 1.0,
        ),
    }

    def __init__(
        self, contexts: Contexts, *, run: int = 0, kappa: float = 0.0, max_episode_steps: int = 100
    ) -> None:
        columns = context_columns(self.environment_id, self.context_table, contexts)
        worlds, kernel_index = distinct_worlds(self.environment_id, "kernel", columns["kernel"])
        kernels, rewards, self.initial_values = random_mdp_instance(run, kappa)
        starts = np.full(NUM_STATES, 1.0 / NUM_STATES)
        self.train_kernels = kernels[:NUM_TRAIN]
        super().__init__(kernels[worlds], kernel_index, rewards, starts, max_episode_steps)


def random_mdp_instance(run: int, kappa: float) -> RandomMDPInstance:
    """Draw the instance of one run, number for number as the authors' program does.

    Parameters
    ----------
    run : int
        In [0, 16000).
    kappa : float
        Weight of the worlds' own kernels ``U_j``: ``P_j = (1 - kappa) P_0 + kappa U_j``, in [0, 1].

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    Their program seeds once for all runs, then again in each run between the Q-table and the kernels, so
    that the rewards of a run continue the stream which the kernels of the run before have left.

    References
    ----------
    Jin et al., AISTATS 2022; its program FedRL, ``tabular/heter_QAvg_random_MDP.py``.
    """
    if not 0 <= run < NUM_RUNS:
        raise ValueError(f"run = {run} must be in [0, {NUM_RUNS})")
    if not 0.0 <= kappa <= 1.0:
        raise ValueError(f"kappa = {kappa} must be in [0, 1]")
    generator = np.random.RandomState(_SEED)
    seeds = generator.randint(0, 10**6, size=NUM_RUNS)
    if run > 0:
        generator = np.random.RandomState(seeds[run - 1])
        _draw_kernels(generator)
    rewards, initial_values = generator.random_sample(_TABLE), generator.random_sample(_TABLE)
    centre, others = _draw_kernels(np.random.RandomState(seeds[run]))
    kernels = np.array([centre] + [(1.0 - kappa) * centre + kappa * other for other in others])
    return RandomMDPInstance(kernels.reshape(NUM_KERNELS, *_TABLE, NUM_STATES), rewards, initial_values)


def _draw_kernels(generator: np.random.RandomState) -> tuple[DoubleArray, list[DoubleArray]]:
    """Draw the centre ``P_0`` and the others ``U_j``, which lead only where the centre does not."""
    mask = generator.binomial(1, 0.5, size=_ROWS)
    for row in mask:
        if row.sum() == 0:
            row[generator.randint(NUM_STATES)] = 1
        elif row.sum() == NUM_STATES:
            row[generator.randint(NUM_STATES)] = 0
    centre = normalised_rows(generator.random_sample(_ROWS) * mask)
    others = [normalised_rows(generator.random_sample(_ROWS) * (1 - mask)) for _ in range(1, NUM_KERNELS)]
    return centre, others
