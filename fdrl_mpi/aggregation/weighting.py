"""How much an agent's update counts."""

from collections.abc import Callable


def uniform(env_steps: int, num_episodes: int) -> float:
    """Count every agent alike."""
    return 1.0


def by_samples(env_steps: int, num_episodes: int) -> float:
    """Count an agent by its environment steps, as FedAvg counts a client by its samples."""
    return float(env_steps)


def by_episodes(env_steps: int, num_episodes: int) -> float:
    """Count an agent by its finished episodes; one that finished none does not count in this round."""
    return float(num_episodes)


Weighting = Callable[[int, int], float]

WEIGHTINGS: dict[str, Weighting] = {"uniform": uniform, "samples": by_samples, "episodes": by_episodes}


def largest_weight(name: str, env_steps: int) -> float:
    """Bound the weight of an agent that takes so many steps in a round, whatever it does with them."""
    return 1.0 if name == "uniform" else float(env_steps)
