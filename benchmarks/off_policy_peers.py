"""What other people's DQN and SAC have in common here: how they run, where they act, how they are judged."""

from collections.abc import Callable
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

Policy = Callable[[NDArray[Any]], Any]
"""Gives the greedy action of one observation."""

EVALUATION_SEED = 1_000


class OffPolicyPeer(Protocol):
    """Another program's learner on gymnasium's environment, in this process."""

    name: str

    @property
    def env_steps(self) -> int:
        """Environment steps taken so far, warm-up included."""
        ...

    def run(self, num_steps: int) -> float:
        """Train for `num_steps` environment steps and return their seconds.

        The first call warms up before it counts: random actions until learning starts, then some updates.
        """
        ...

    def evaluate(self, episodes: int) -> list[float]:
        """Play whole episodes greedily and return their undiscounted returns."""
        ...


def greedy_returns(environment_id: str, policy: Policy, episodes: int) -> list[float]:
    """Play `episodes` from the same starts each time; return their undiscounted returns."""
    environment, returns = gymnasium.make(environment_id), []
    for number in range(episodes):
        observation, _ = environment.reset(seed=EVALUATION_SEED + number)
        total, done = 0.0, False
        while not done:
            observation, reward, terminated, truncated, _ = environment.step(policy(observation))
            total, done = total + float(reward), terminated or truncated
        returns.append(total)
    environment.close()
    return returns


def one_environment(environment_id: str, seed: int) -> SyncVectorEnv:
    """Make the vector of one recorded environment that CleanRL's scripts step.

    Episodes start again within the step that ends them, as in the gymnasium those scripts were written for.
    """

    def make() -> gymnasium.Env[Any, Any]:
        environment = gymnasium.wrappers.RecordEpisodeStatistics(gymnasium.make(environment_id))
        environment.action_space.seed(seed)
        return environment

    return SyncVectorEnv([make], autoreset_mode=AutoresetMode.SAME_STEP)


def reached(next_observations: NDArray[Any], truncated: NDArray[np.bool_], infos: dict[str, Any]) -> Any:
    """Put back what time limits cut off; other ends need none, as nothing is bootstrapped there."""
    observations = next_observations.copy()
    for place, was_cut in enumerate(truncated):
        if was_cut:
            observations[place] = infos["final_obs"][place]
    return observations
