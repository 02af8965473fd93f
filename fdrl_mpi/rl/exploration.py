"""How often learners of action values act at random."""

from fdrl_mpi.rl.hyperparameters import DQNConfig, QLearningConfig


def linear_epsilon(settings: DQNConfig | QLearningConfig, steps: int) -> float:
    """Compute the share of random actions after `steps` steps: it falls on a straight line, then stays."""
    share = min(steps / settings.epsilon_steps, 1.0)
    return settings.epsilon_start + share * (settings.epsilon_end - settings.epsilon_start)
