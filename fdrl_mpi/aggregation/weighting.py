"""How much an agent's update counts."""

from collections.abc import Callable

LARGEST_RETURN = 1e30
"""Beyond which a return counts as this: sums of weights stay finite in float32."""


def uniform(env_steps: int, num_episodes: int, recent_return: float) -> float:
    """Count every agent alike."""
    return 1.0


def by_samples(env_steps: int, num_episodes: int, recent_return: float) -> float:
    """Count an agent by its environment steps, as FedAvg counts a client by its samples."""
    return float(env_steps)


def by_episodes(env_steps: int, num_episodes: int, recent_return: float) -> float:
    """Count an agent by its finished episodes; one that finished none does not count in this round."""
    return float(num_episodes)


def by_returns(env_steps: int, num_episodes: int, recent_return: float) -> float:
    """Count an agent by the mean return of its newest episodes, where that is above 0."""
    return min(recent_return, LARGEST_RETURN) if recent_return > 0.0 else 0.0


Weighting = Callable[[int, int, float], float]
"""Maps environment steps, finished episodes and the mean return of the newest ones to a weight."""

WEIGHTINGS: dict[str, Weighting] = {
    "uniform": uniform,
    "samples": by_samples,
    "episodes": by_episodes,
    "returns": by_returns,
    "visits": uniform,
}
"""Under "visits" the weights of single coordinates travel inside the sum, and agents count alike."""


def largest_weight(name: str, env_steps: int) -> float:
    """Bound the weight of an agent that takes so many steps in a round, whatever it does with them.

    Raises
    ------
    ValueError
        If nothing does: episodes may be short, and returns high.
    """
    if name in ("episodes", "returns"):
        raise ValueError(f"the weight of an agent by {name} has no public bound")
    return float(env_steps) if name == "samples" else 1.0
