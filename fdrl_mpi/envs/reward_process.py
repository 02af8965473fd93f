"""Markov reward processes that are perturbations of a common one: evaluating a policy in unlike worlds."""

from typing import ClassVar, NamedTuple

import numpy as np

from fdrl_mpi.arrays import DoubleArray, IntVector
from fdrl_mpi.envs.contexts import ContextParameter, Contexts, context_columns
from fdrl_mpi.envs.finite_mdp import FiniteMDP, distinct_worlds, normalised_rows, state_values

_SMALLEST_CHANCE = 1e-12


class PerturbedProcesses(NamedTuple):
    """A process with n states, and what N agents see instead of it.

    Attributes
    ----------
    kernels : list of N float64 arrays, shape (n, n)
        ``P_i(t|s)`` of the agents.
    rewards : float64 array, shape (n,)
        Of each state, in [0, 1), the same for all agents.
    values : float64 array, shape (n,)
        V* of the process itself.
    generator : numpy.random.RandomState
        The stream as it was left.
    kernel : float64 array, shape (n, n)
        P of the process itself.
    first_states : int64 array, shape (N,)
        Where the agents would start a trajectory; drawn even where states are drawn independently.
    """

    kernels: list[DoubleArray]
    rewards: DoubleArray
    values: DoubleArray
    generator: np.random.RandomState
    kernel: DoubleArray
    first_states: IntVector


class RewardProcess(FiniteMDP):
    """A random process with one action, seen by each agent with an error of its own.

    Every state is equally likely to be the first.

    Parameters
    ----------
    contexts : sequence of mappings
        ``agent``, one per environment: 0 is the process without error, i is that of agent i.
    seed : int
        Of the process and of all errors.
    num_states, num_agents : int
        n and N, at least 1.
    delta : float
        Bound of the errors, see `perturbed_processes`.
    max_episode_steps : int
        Time limit; in the published experiment states are drawn anew in each step, as with a limit of 1.

    References
    ----------
    Beikmohammadi, Khirirat, Richtárik and Magnússon, ECML-PKDD 2025: federated TD(0) with model mismatch.
    """

    environment_id = "RewardProcess"
    context_table: ClassVar[dict[str, ContextParameter]] = {
        "agent": ContextParameter(0.0, "-", "whose process: 0 the one without error", low=0.0),
    }

    def __init__(
        self,
        contexts: Contexts,
        *,
        seed: int = 0,
        num_states: int = 10,
        num_agents: int = 10,
        delta: float = 0.01,
        max_episode_steps: int = 100,
    ) -> None:
        columns = context_columns(self.environment_id, self.context_table, contexts)
        agents, kernel_index = distinct_worlds(self.environment_id, "agent", columns["agent"])
        if agents.max() > num_agents:
            raise ValueError(f"agent = {agents.max()} must be at most num_agents = {num_agents}")
        processes = perturbed_processes(seed, num_states, num_agents, delta)
        self.kernel = processes.kernel
        kernels = np.array([processes.kernel, *processes.kernels])[agents, :, None, :]
        rewards, starts = processes.rewards[:, None], np.full(num_states, 1.0 / num_states)
        super().__init__(kernels, kernel_index, rewards, starts, max_episode_steps)

    def true_values(self, gamma: float) -> DoubleArray:
        """Solve for V* of the process without error, shape (n,); see `state_values`."""
        return state_values(self.kernel, self.rewards_table[:, 0], gamma)


def perturbed_processes(
    seed: int, num_states: int, num_agents: int, delta: float, gamma: float = 0.8
) -> PerturbedProcesses:
    """Draw a process and its perturbations, number for number as the authors' program does.

    Each agent's error is normal with standard deviation ``delta / 2`` per entry, shortened to Frobenius norm
    `delta`; chances are then raised to 1e-12 at least, and rows normalised.

    Parameters
    ----------
    seed : int
        Of a legacy numpy stream, in [0, 2^32).
    num_states, num_agents : int
        n and N, at least 1.
    delta : float
        Not negative; 0 gives all agents the process itself.
    gamma : float
        Discount of V*, in [0, 1).

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    Beikmohammadi et al., ECML-PKDD 2025; its program FedRL, ``FedTD-main.py``.
    """
    if num_states < 1 or num_agents < 1 or not delta >= 0.0:
        raise ValueError(
            f"num_states = {num_states} and num_agents = {num_agents} must be at least 1, "
            f"delta = {delta} not below 0"
        )
    generator = np.random.RandomState(seed)
    kernel = normalised_rows(generator.random_sample((num_states, num_states)))
    rewards = generator.random_sample(num_states)
    kernels = [_perturb(kernel, delta, generator) for _ in range(num_agents)]
    first_states = generator.randint(num_states, size=num_agents)
    values = state_values(kernel, rewards, gamma)
    return PerturbedProcesses(kernels, rewards, values, generator, kernel, first_states)


def _perturb(kernel: DoubleArray, delta: float, generator: np.random.RandomState) -> DoubleArray:
    error = generator.normal(0.0, delta / 2.0, kernel.shape)
    norm = float(np.linalg.norm(error))
    if norm > delta:
        error *= delta / norm
    return normalised_rows(np.maximum(kernel + error, _SMALLEST_CHANCE))
