"""Temporal-difference learning of state values: TD(0) on a process without choices.

References
----------
Sutton, "Learning to Predict by the Methods of Temporal Differences", Machine Learning 3, 1988. Federated,
with agents whose processes differ: Beikmohammadi et al., ECML-PKDD 2025.
"""

from typing import ClassVar

import numpy as np

from fdrl_mpi.arrays import FloatVector, IntVector, State
from fdrl_mpi.rl.hyperparameters import TDConfig
from fdrl_mpi.rl.learner import Budget, TrainStats
from fdrl_mpi.rl.model import NetworkFactory
from fdrl_mpi.rl.objective import LocalObjective
from fdrl_mpi.rl.rollout import Environment
from fdrl_mpi.rl.table import States, TableModel, check_finite, initial_table


class TD:
    """One agent's values; see `Learner` for the interface.

    Parameters
    ----------
    settings : TDConfig
    model : TableModel
        One column.
    environment : Environment
        Environments that are in the same state update one after another.
    objective : LocalObjective
        Tables have no gradients: it must be idle.
    """

    action_kinds: ClassVar[tuple[str, ...]] = ("discrete",)
    unit: ClassVar[str] = "steps"

    def __init__(
        self, settings: TDConfig, model: TableModel, environment: Environment, objective: LocalObjective
    ) -> None:
        self._settings, self._environment, self.params = settings, environment, model.params
        self._nothing: IntVector = np.zeros(environment.num_envs, np.int64)
        self.restart()

    @staticmethod
    def make_model(
        settings: TDConfig,
        environment: Environment,
        make_network: NetworkFactory,
        generator: np.random.Generator,
        params: FloatVector | None,
    ) -> TableModel:
        """Make the values.

        Raises
        ------
        ValueError
            If there are no states to count, or there is something to choose.
        """
        check_finite("td", environment)
        if environment.action_spec.size > 1:
            raise ValueError(
                f"learner.name = td values the states of a process without choices, and this one has "
                f"{environment.action_spec.size} actions; choose RewardProcess, or learner.name = q_learning "
                "with learner.method = sarsa"
            )
        return initial_table(environment, TableModel("v", environment.observation_size, 1, params))

    def train(self, budget: Budget) -> TrainStats:
        """Step and update until the budget is spent."""
        stats, values, num_envs = TrainStats(), self.params, self._environment.num_envs
        states, gamma = self._states, self._settings.gamma
        stats.means = self._error()
        states.begin_round(budget.generator)
        for _ in range(budget.work // num_envs):
            first = states.current.tolist()
            stats.episodes += states.step(self._nothing)
            following = states.following.tolist()
            for state, after, reward, ends in zip(
                first, following, states.rewards.tolist(), states.terminated.tolist(), strict=True
            ):
                target = reward + (0.0 if ends else gamma * float(values[after]))
                values[state] += budget.lr * (target - float(values[state]))
        stats.gradient_steps = budget.work // num_envs
        stats.env_steps = stats.gradient_steps * num_envs
        return stats

    def restart(self) -> None:
        """Begin with fresh episodes; the values stay."""
        self._states = States(self._environment)

    def get_state(self) -> State:
        """Return values and environments."""
        return {"params": self.params.copy(), "states": self._states.get_state()}

    def set_state(self, state: State) -> None:
        """Go on from `get_state`."""
        self.params[:] = state["params"]
        self._states.set_state(state["states"])

    def _error(self) -> dict[str, float]:
        """Measure the root mean squared error of the values, where the true ones are known."""
        solve = getattr(self._environment, "true_values", None)
        if solve is None or self._settings.gamma >= 1.0:
            return {}
        difference = solve(self._settings.gamma) - self.params
        return {"table_error": float(np.sqrt(np.mean(difference * difference)))}
