"""Tabular Q-learning, SARSA and expected SARSA; the table is the flat vector that is federated.

References
----------
Watkins and Dayan, "Q-learning", Machine Learning 8, 1992. Rummery and Niranjan, 1994 (SARSA). Woo, Joshi and
Chi, "The Blessing of Heterogeneity in Federated Q-Learning", ICML 2023 (averaging, and importance averaging).
"""

from collections.abc import Callable
from typing import ClassVar, TypeAlias

import numpy as np

from fdrl_mpi.arrays import DoubleArray, FloatVector, IntVector, State
from fdrl_mpi.rl.exploration import linear_epsilon
from fdrl_mpi.rl.hyperparameters import QLearningConfig
from fdrl_mpi.rl.learner import Budget, TrainStats
from fdrl_mpi.rl.model import NetworkFactory
from fdrl_mpi.rl.objective import LocalObjective
from fdrl_mpi.rl.rollout import Environment
from fdrl_mpi.rl.table import States, TableModel, check_finite, initial_table

CHUNK = 64
"""Steps whose exploration is drawn at once."""
LARGEST_LOG_WEIGHT = 100.0
"""Logarithm of the weight from which on more visits count no more."""
LOG_UNIT = 70.0
"""Weights are divided by exp of this: float32 holds them then, their products with values, and squares."""

Ended: TypeAlias = Callable[[list[tuple[float, float]]], None]
"""Takes (return, length) of the episodes that a step ended."""


class QLearning:
    """One agent's table; see `Learner` for the interface.

    Parameters
    ----------
    settings : QLearningConfig
    model : TableModel
    environment : Environment
        The agent's worlds; where several are in the same state with the same action, the table moves as if
        their steps came one after another, all with the mean of their targets.
    objective : LocalObjective
        Tables have no gradients: it must be idle.
    """

    action_kinds: ClassVar[tuple[str, ...]] = ("discrete",)
    unit: ClassVar[str] = "steps"
    _actions: IntVector
    _explored: IntVector

    def __init__(
        self,
        settings: QLearningConfig,
        model: TableModel,
        environment: Environment,
        objective: LocalObjective,
    ) -> None:
        self._settings, self._environment = settings, environment
        self._model, self._table, self.params = model, model.table, model.params
        self._visits: DoubleArray = np.zeros(len(model.params))
        self._lr = settings.lr
        self._counted_envs = environment.num_envs
        self.restart()

    @staticmethod
    def make_model(
        settings: QLearningConfig,
        environment: Environment,
        make_network: NetworkFactory,
        generator: np.random.Generator,
        params: FloatVector | None,
    ) -> TableModel:
        """Make the table.

        Raises
        ------
        ValueError
            If there are no states to count, or the environment knows no fixed behaviour.
        """
        check_finite("q_learning", environment)
        if settings.behaviour == "fixed" and not hasattr(environment, "behaviour_actions"):
            raise ValueError(
                "learner.behaviour = fixed needs an environment that says what is always played, as TwoState "
                "does; choose epsilon_greedy or uniform"
            )
        model = TableModel("q", environment.observation_size, environment.action_spec.size, params)
        return initial_table(environment, model)

    def train(self, budget: Budget) -> TrainStats:
        """Step and update until the budget is spent."""
        stats, num_envs = TrainStats(means=self.error()), self._environment.num_envs
        self._states.begin_round(budget.generator)
        stats.gradient_steps = self._learn(budget.work // num_envs, budget, stats.episodes.extend)
        stats.env_steps = stats.gradient_steps * num_envs
        return stats

    def _learn(self, num_steps: int, budget: Budget, ended: Ended) -> int:
        """Make steps in all environments, an update after each; tell of episodes; return their number."""
        self._visits.fill(0.0)
        self._lr = budget.lr
        states = self._states
        for t in range(num_steps):
            if t % CHUNK == 0:
                explored = self._draw_explored(budget.generator)
            if t == 0:
                self._actions = self._behave(explored[0], states.current)
            first, actions = states.current.copy(), self._actions
            if episodes := states.step(actions):
                ended(episodes)
            self._explored = explored[t % CHUNK + 1]
            self._actions = self._behave(self._explored, states.current)
            self._update(first, actions)
            self._steps += self._counted_envs
        return num_steps

    def start(self, generator: np.random.Generator) -> None:
        """See `Member.start`."""
        self._states.begin_round(generator)

    @property
    def stage(self) -> int:
        """See `Member.stage`: exploration depends on the steps made."""
        return self._steps

    def coordinate_weights(self) -> FloatVector:
        """Weigh each entry by ``(1 - lr)^-visits``, times a constant that all agents share.

        Woo et al., ICML 2023, equation 13: of an entry's weights only the ratios between agents count. They
        are exact up to ``100 / -log(1 - lr)`` visits in a round, 949 with lr = 0.1; entries with more weigh
        as if they had no more.
        """
        log_weight = np.minimum(-np.log1p(-self._lr) * self._visits, LARGEST_LOG_WEIGHT)
        weights: FloatVector = np.exp(log_weight - LOG_UNIT).astype(np.float32)
        return weights

    def restart(self) -> None:
        """Begin with fresh episodes; the table stays."""
        self._states = States(self._environment)
        self._steps = 0

    def get_state(self) -> State:
        """Return table, environments and how far exploration has come."""
        return {"params": self.params.copy(), "states": self._states.get_state(), "steps": self._steps}

    def set_state(self, state: State) -> None:
        """Go on from `get_state`."""
        self.params[:] = state["params"]
        self._states.set_state(state["states"])
        self._steps = int(state["steps"])

    def _update(self, first: IntVector, actions: IntVector) -> None:
        """Move the entries that were visited towards ``r + gamma (1 - terminated) V(s')``."""
        states, settings = self._states, self._settings
        targets = self._following_values() * np.float32(settings.gamma)
        targets[states.terminated] = 0.0
        targets += states.rewards
        self._move(first * self._table.shape[1] + actions, targets)

    def _move(self, pairs: IntVector, targets: FloatVector) -> None:
        if len(pairs) == 1:
            pair = int(pairs[0])
            self.params[pair] += self._lr * float(targets[0] - self.params[pair])
            self._visits[pair] += 1.0
            return
        visits = np.bincount(pairs, minlength=len(self.params))
        seen = visits.nonzero()[0]
        mean = np.bincount(pairs, targets, len(self.params))[seen] / visits[seen]
        share = 1.0 - (1.0 - self._lr) ** visits[seen]
        self.params[seen] += (share * (mean - self.params[seen])).astype(np.float32)
        self._visits += visits

    def _following_values(self) -> FloatVector:
        """Value the states that were reached, by the method's own policy.

        An episode that was cut goes on beyond its end: there SARSA takes the action it would have played.
        """
        settings, following = self._settings, self._states.following
        rows: FloatVector = self._table[following]
        if settings.method == "q_learning":
            best: FloatVector = np.maximum.reduce(rows, axis=1)
            return best
        if settings.method == "sarsa" or settings.behaviour == "fixed":
            return rows[np.arange(len(rows)), self._behave(self._explored, following)]
        epsilon = 1.0 if settings.behaviour == "uniform" else linear_epsilon(settings, self._steps)
        values: FloatVector = (1.0 - epsilon) * rows.max(axis=1) + epsilon * rows.mean(axis=1)
        return values

    def _draw_explored(self, generator: np.random.Generator) -> IntVector:
        """Draw an action for each step of a chunk and one more; -1 where it is to be the best."""
        shape = (CHUNK + 1, self._environment.num_envs)
        if self._settings.behaviour == "fixed":
            fixed: IntVector = self._environment.behaviour_actions  # type: ignore[attr-defined]
            return np.broadcast_to(fixed, shape)
        chosen: IntVector = generator.integers(self._table.shape[1], size=shape)
        if self._settings.behaviour == "epsilon_greedy":
            chosen[generator.random(shape) >= linear_epsilon(self._settings, self._steps)] = -1
        return chosen

    def _behave(self, explored: IntVector, states: IntVector) -> IntVector:
        """Choose an action in each of `states`."""
        if self._settings.behaviour != "epsilon_greedy":
            return explored
        best: IntVector = self._table[states].argmax(axis=1)
        return np.where(explored < 0, best, explored)

    def error(self) -> dict[str, float]:
        """Measure how far the table is from the optimal one, where that is known."""
        solve = getattr(self._environment, "optimal_values", None)
        if solve is None or self._settings.gamma >= 1.0:
            return {}
        difference = np.abs(solve(self._settings.gamma) - self._table).max()
        return {"table_error": (1.0 - self._settings.gamma) * float(difference)}
