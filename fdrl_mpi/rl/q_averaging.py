"""QAvg: exact sweeps over a known process, and averaged tables; nothing is sampled.

References
----------
Jin, Peng, Yang, Wang and Zhang, "Federated Reinforcement Learning with Environment Heterogeneity", AISTATS
2022, section 4.1; step sizes as in its program.
"""

from typing import ClassVar

import numpy as np

from fdrl_mpi.arrays import DoubleArray, FloatVector, IntVector, State
from fdrl_mpi.rl.hyperparameters import QAveragingConfig
from fdrl_mpi.rl.learner import Budget, TrainStats
from fdrl_mpi.rl.model import NetworkFactory
from fdrl_mpi.rl.objective import LocalObjective
from fdrl_mpi.rl.rollout import Environment
from fdrl_mpi.rl.table import KnownProcess, TableModel, initial_table

PLATEAU = 1e-3
"""Relative gain of the objective below which the step size falls."""


class QAveraging:
    """One agent's table over its own kernel; see `Learner` for the interface.

    A round is ``V = max_a Q``, `budget` sweeps of ``V = (1 - lr) V + lr max_a (R + gamma P V)``, and
    ``Q = R + gamma P V``. The step size falls wherever the mean return of the published greedy policy over
    the worlds for training has stopped rising.

    Parameters
    ----------
    settings : QAveragingConfig
    model : TableModel
    environment : Environment
        Its first world is the agent's.
    objective : LocalObjective
        Tables have no gradients: it must be idle.
    """

    action_kinds: ClassVar[tuple[str, ...]] = ("discrete",)
    unit: ClassVar[str] = "sweeps"

    def __init__(
        self,
        settings: QAveragingConfig,
        model: TableModel,
        environment: Environment,
        objective: LocalObjective,
    ) -> None:
        assert isinstance(environment, KnownProcess)
        self._settings, self._process = settings, environment
        self._table, self.params = model.table, model.params
        self._train_kernels: DoubleArray = getattr(environment, "train_kernels", environment.kernels)
        self.restart()

    @staticmethod
    def make_model(
        settings: QAveragingConfig,
        environment: Environment,
        make_network: NetworkFactory,
        generator: np.random.Generator,
        params: FloatVector | None,
    ) -> TableModel:
        """Make the table.

        Raises
        ------
        ValueError
            If the process is not known.
        """
        if not isinstance(environment, KnownProcess):
            raise ValueError(
                "learner.name = q_averaging sweeps over a process whose kernel is known; choose RandomMDP, "
                "WindyCliff, RewardProcess or TwoState, or learner.name = q_learning, which samples"
            )
        model = TableModel("q", environment.num_states, environment.num_actions, params)
        return initial_table(environment, model)

    def train(self, budget: Budget) -> TrainStats:
        """Make one round of sweeps."""
        process, gamma = self._process, self._settings.gamma
        kernel, rewards = process.kernels[process_index(process)], process.rewards_table
        objective = mean_return(self._table, self._train_kernels, process, gamma)
        self._renew_lr(objective)
        values: DoubleArray = self._table.max(axis=1).astype(np.float64)
        for _ in range(budget.work):
            improved = (rewards + gamma * (kernel @ values)).max(axis=1)
            values = (1.0 - self._lr) * values + self._lr * improved
        self._table[:] = rewards + gamma * (kernel @ values)
        own = mean_return(self._table, kernel[None], process, gamma)
        means = {"exact_return": own, "train_objective": objective}
        return TrainStats(gradient_steps=budget.work, means=means)

    def restart(self) -> None:
        """Begin with the first step size; the table stays."""
        self._lr = self._settings.lr
        self._objectives: list[float] = []
        self._rounds = 0

    def get_state(self) -> State:
        """Return table and step size."""
        return {
            "params": self.params.copy(),
            "lr": self._lr,
            "objectives": np.array(self._objectives),
            "rounds": self._rounds,
        }

    def set_state(self, state: State) -> None:
        """Go on from `get_state`."""
        self.params[:] = state["params"]
        self._lr, self._rounds = float(state["lr"]), int(state["rounds"])
        self._objectives = state["objectives"].tolist()

    def _renew_lr(self, objective: float) -> None:
        """Take in the objective of the round before, and let the step size fall on a plateau."""
        if self._rounds > 0:
            self._objectives = [*self._objectives[-1:], objective]
        if self._rounds > 2 and len(self._objectives) == 2:
            before, last = self._objectives
            if last - before < PLATEAU * before:
                self._lr *= self._settings.plateau_decay
        self._rounds += 1


def process_index(process: KnownProcess) -> int:
    """Number the world of a process's first environment."""
    index: IntVector = getattr(process, "kernel_index", np.zeros(1, np.int64))
    return int(index[0])


def mean_return(
    table: FloatVector | DoubleArray, kernels: DoubleArray, process: KnownProcess, gamma: float
) -> float:
    """Average over kernels the exact return of a table's greedy policy, from the start distribution.

    ``J = d_0^T (I - gamma P_pi)^-1 R_pi``; of equal entries the first is chosen.

    Parameters
    ----------
    table : array, shape (S, A)
    kernels : float64 array, shape (n, S, A, S)
    """
    states, actions = np.arange(process.num_states), np.asarray(table).argmax(axis=1)
    rewards = process.rewards_table[states, actions]
    returns = [
        process.start_distribution
        @ np.linalg.solve(np.eye(len(states)) - gamma * kernel[states, actions], rewards)
        for kernel in kernels
    ]
    return float(np.mean(returns))
