"""Returns that others have published, to set learning curves beside.

Figures that are `recalled` were written down from memory, rounded, and must be checked at their source before
they are quoted. Left out is what could not be recalled with certainty: stable-baselines3's A2C on LunarLander
and anything on LunarLander-v3 (the zoo's table is of v2); of CleanRL, A2C (it has none), SAC on Pendulum and
everything on LunarLander (its documentation shows other environments).
"""

from dataclasses import dataclass

ZOO = (
    "rl-baselines3-zoo, benchmark.md: stable-baselines3 with the zoo's tuned settings, one run each; mean "
    "and deviation of the returns of the episodes in 150,000 steps of the trained agent"
)
CLEANRL_PPO = "CleanRL's documentation of ppo.py: last 100 training episodes, mean and deviation of 3 seeds"
CLEANRL_DQN = "CleanRL's documentation of dqn.py: last 100 training episodes, mean and deviation of 3 seeds"


@dataclass(frozen=True)
class KnownReturn:
    """An undiscounted return after a known number of environment steps.

    Attributes
    ----------
    mean, deviation : float
        The source says of what.
    env_steps : int
        Environment steps of training.
    source : str
    recalled : bool
        Whether the figures come from memory instead of from the source itself.
    """

    mean: float
    deviation: float
    env_steps: int
    source: str
    recalled: bool = True


KNOWN_RETURNS = {
    ("stable-baselines3", "ppo", "CartPole-v1"): KnownReturn(500.0, 0.0, 100_000, ZOO),
    ("stable-baselines3", "ppo", "Acrobot-v1"): KnownReturn(-73.5, 18.2, 1_000_000, ZOO),
    ("stable-baselines3", "ppo", "LunarLander-v2"): KnownReturn(242.1, 31.8, 1_000_000, ZOO),
    ("stable-baselines3", "ppo", "Pendulum-v1"): KnownReturn(-172.2, 104.2, 100_000, ZOO),
    ("stable-baselines3", "dqn", "CartPole-v1"): KnownReturn(500.0, 0.0, 50_000, ZOO),
    ("stable-baselines3", "dqn", "Acrobot-v1"): KnownReturn(-76.6, 11.8, 100_000, ZOO),
    ("stable-baselines3", "dqn", "LunarLander-v2"): KnownReturn(154.4, 79.2, 100_000, ZOO),
    ("stable-baselines3", "sac", "Pendulum-v1"): KnownReturn(-157.0, 88.7, 20_000, ZOO),
    ("stable-baselines3", "a2c", "CartPole-v1"): KnownReturn(500.0, 0.0, 500_000, ZOO),
    ("stable-baselines3", "a2c", "Acrobot-v1"): KnownReturn(-83.4, 17.2, 500_000, ZOO),
    ("stable-baselines3", "a2c", "Pendulum-v1"): KnownReturn(-203.0, 126.4, 1_000_000, ZOO),
    ("CleanRL", "ppo", "CartPole-v1"): KnownReturn(492.4, 13.1, 500_000, CLEANRL_PPO),
    ("CleanRL", "ppo", "Acrobot-v1"): KnownReturn(-89.9, 6.3, 500_000, CLEANRL_PPO),
    ("CleanRL", "dqn", "CartPole-v1"): KnownReturn(488.7, 16.1, 500_000, CLEANRL_DQN),
    ("CleanRL", "dqn", "Acrobot-v1"): KnownReturn(-91.5, 7.2, 500_000, CLEANRL_DQN),
}
"""By program, learner and environment. The zoo's steps agree with the settings in rl_zoo3 2.9.2."""

SOLVED_RETURNS = {"CartPole-v1": 475.0, "Acrobot-v1": -100.0, "LunarLander-v3": 200.0}
"""`reward_threshold` of gymnasium 1.4.0's registry, read there; Pendulum-v1 has none."""
