"""Two states and many actions: whoever plays one action only learns about two of the pairs."""

from typing import ClassVar

import numpy as np

from fdrl_mpi.arrays import DoubleArray
from fdrl_mpi.envs.contexts import ContextParameter, Contexts, context_columns
from fdrl_mpi.envs.finite_mdp import FiniteMDP, optimal_action_values
from fdrl_mpi.streams import stream

_SMALLEST_STAY = 0.4
_LARGEST_STAY = 0.6


class TwoState(FiniteMDP):
    """States 0 and 1; every action in state 1 pays 1, in state 0 nothing.

    An action keeps the state with a chance of its own, drawn from [0.4, 0.6), and else changes it. Both
    states are equally likely to be the first. The world is the same for all agents: they differ in the action
    that each of them always plays, for learners whose behaviour is "fixed".

    Parameters
    ----------
    contexts : sequence of mappings
        ``action``, one per environment.
    num_actions : int
        m, at least 1.
    seed : int
        Of the chances, not negative.
    max_episode_steps : int
        Time limit; the published experiment has none.

    Attributes
    ----------
    behaviour_actions : int64 array, shape (N,)
        The action of each environment, counted round from 0 again behind the last.
    initial_values : float64 array, shape (2, m)
        First Q-table of the published experiment: uniform on [0, 10), the largest value for gamma = 0.9.

    References
    ----------
    Woo, Joshi and Chi, "The Blessing of Heterogeneity in Federated Q-Learning: Linear Speedup and Beyond",
    ICML 2023.
    """

    environment_id = "TwoState"
    context_table: ClassVar[dict[str, ContextParameter]] = {
        "action": ContextParameter(0.0, "-", "what is always played by a fixed behaviour", low=0.0),
    }

    def __init__(
        self, contexts: Contexts, *, num_actions: int = 20, seed: int = 0, max_episode_steps: int = 100
    ) -> None:
        columns = context_columns(self.environment_id, self.context_table, contexts)
        kernels = two_state_kernel(seed, num_actions)[None]
        self.initial_values = stream(seed, "two_state/initial").uniform(0.0, 10.0, (2, num_actions))
        self.behaviour_actions = columns["action"].astype(np.int64) % num_actions
        rewards = np.array([[0.0], [1.0]]).repeat(num_actions, axis=1)
        kernel_index = np.zeros(len(contexts), np.int64)
        super().__init__(kernels, kernel_index, rewards, np.array([0.5, 0.5]), max_episode_steps)

    def optimal_values(self, gamma: float) -> DoubleArray:
        """Solve for Q*, shape (2, m); see `optimal_action_values`."""
        return optimal_action_values(self.kernels[0], self.rewards_table, gamma)


def two_state_kernel(seed: int, num_actions: int) -> DoubleArray:
    """Draw ``P(t|s, a)``.

    Returns
    -------
    float64 array, shape (2, m, 2)

    Raises
    ------
    ValueError
        If there is no action.
    """
    if num_actions < 1:
        raise ValueError(f"num_actions = {num_actions} must be at least 1")
    stay = stream(seed, "two_state").uniform(_SMALLEST_STAY, _LARGEST_STAY, (2, num_actions))
    return np.array([[stay[0], 1.0 - stay[0]], [1.0 - stay[1], stay[1]]]).transpose(0, 2, 1)
