"""WindyCliff: walk along a cliff while a wind of unknown strength pushes towards it."""

from typing import ClassVar, NamedTuple

import numpy as np

from fdrl_mpi.arrays import DoubleArray
from fdrl_mpi.envs.contexts import ContextParameter, Contexts, context_columns
from fdrl_mpi.envs.finite_mdp import FiniteMDP

SIDE = 4
NUM_STATES = SIDE * SIDE
NUM_ACTIONS = 4
UP, DOWN, LEFT, RIGHT = range(NUM_ACTIONS)
NUM_TRAIN = 5
NUM_TEST = 10
_SEED = 105
_MOVES = {UP: (0, 1), DOWN: (0, -1), LEFT: (-1, 0), RIGHT: (1, 0)}
_START = 0
_CLIFF = (1, 2)
_GOAL = 3


class WindyCliffInstance(NamedTuple):
    """What one run of the published experiment draws.

    Attributes
    ----------
    train_winds : float64 array, shape (5,)
        Of the worlds that agents train in, in [0, 1).
    test_winds : float64 array, shape (10,)
        From 0 to 1 evenly, in every run.
    initial_values : float64 array, shape (16, 4)
        First Q-table of the run, in [0, 1).
    """

    train_winds: DoubleArray
    test_winds: DoubleArray
    initial_values: DoubleArray


class WindyCliff(FiniteMDP):
    """A 4 x 4 grid with a cliff between the start and the goal, and wind blowing down.

    State ``4 y + x`` is the field (x, y); actions are 0 up (y + 1), 1 down, 2 left and 3 right, and walls
    stop. Being in a state pays -1, on the cliff (states 1 and 2) -100, on the goal (state 3) 100; from these
    three every action leads back to the start, state 0. Elsewhere an action other than down fails with chance
    ``wind / 3`` and moves down.

    Parameters
    ----------
    contexts : sequence of mappings
        ``wind``, one per environment.
    run : int
        Which of the published instances; only `initial_values` depends on it.
    max_episode_steps : int
        Time limit; the published experiment has none, and samples nothing.

    Attributes
    ----------
    initial_values : float64 array, shape (16, 4)
        First Q-table of the run.
    train_kernels : float64 array, shape (5, 16, 4, 16)
        Of the run's worlds for training, whose mean return the published step size depends on.

    References
    ----------
    Jin, Peng, Yang, Wang and Zhang, "Federated Reinforcement Learning with Environment Heterogeneity",
    AISTATS 2022.
    """

    environment_id = "WindyCliff"
    context_table: ClassVar[dict[str, ContextParameter]] = {
        "wind": ContextParameter(0.0, "-", "three times the chance of being blown down", low=0.0, high=1.0),
    }

    def __init__(self, contexts: Contexts, *, run: int = 0, max_episode_steps: int = 100) -> None:
        winds = context_columns(self.environment_id, self.context_table, contexts)["wind"]
        distinct, kernel_index = np.unique(winds, return_inverse=True)
        kernels = np.array([windy_cliff_kernel(float(wind)) for wind in distinct])
        starts = np.eye(NUM_STATES)[_START]
        super().__init__(kernels, kernel_index, windy_cliff_rewards(), starts, max_episode_steps)
        instance = windy_cliff_instance(run)
        self.initial_values = instance.initial_values
        self.train_kernels = np.array([windy_cliff_kernel(float(wind)) for wind in instance.train_winds])


def windy_cliff_instance(run: int) -> WindyCliffInstance:
    """Draw the winds and the Q-table of one run, number for number as the authors' program does.

    Raises
    ------
    ValueError
        If `run` is negative.

    References
    ----------
    Jin et al., AISTATS 2022; its program FedRL, ``tabular/QAvg_windy_cliff.py``.
    """
    if run < 0:
        raise ValueError(f"run = {run} must not be negative")
    seeds = np.random.RandomState(_SEED).randint(0, 10**6, size=run + 1)
    generator = np.random.RandomState(seeds[run])
    initial_values = generator.random_sample((NUM_STATES, NUM_ACTIONS))
    train_winds = generator.random_sample(NUM_TRAIN)
    return WindyCliffInstance(train_winds, np.linspace(0.0, 1.0, NUM_TEST), initial_values)


def windy_cliff_kernel(wind: float) -> DoubleArray:
    """Tabulate ``P(t|s, a)`` of one wind in [0, 1].

    Returns
    -------
    float64 array, shape (16, 4, 16)
    """
    kernel = np.zeros((NUM_STATES, NUM_ACTIONS, NUM_STATES))
    for state in range(NUM_STATES):
        for action in _MOVES:
            failure = 0.0 if action == DOWN else wind / 3.0
            kernel[state, action, _neighbour(state, action)] = 1.0 - failure
            kernel[state, action, _neighbour(state, DOWN)] += failure
    kernel[[*_CLIFF, _GOAL]] = np.eye(NUM_STATES)[_START]
    return kernel


def windy_cliff_rewards() -> DoubleArray:
    """Tabulate the rewards of the state an action is taken in.

    Returns
    -------
    float64 array, shape (16, 4)
    """
    rewards = np.full((NUM_STATES, NUM_ACTIONS), -1.0)
    rewards[list(_CLIFF)] = -100.0
    rewards[_GOAL] = 100.0
    return rewards


def _neighbour(state: int, action: int) -> int:
    y, x = divmod(state, SIDE)
    step_x, step_y = _MOVES[action]
    x, y = x + step_x, y + step_y
    return SIDE * y + x if 0 <= x < SIDE and 0 <= y < SIDE else state
