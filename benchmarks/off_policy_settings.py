"""Hyperparameters of DQN and SAC under which programs are compared: CleanRL's defaults."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DQNSettings:
    """Deep Q-network on one environment.

    Attributes
    ----------
    exploration_steps : int
        Environment steps in which epsilon falls from its first to its last value. CleanRL gives it as half of
        a run, 500,000 steps by default; here the run has 100,000.
    train_every, gradient_steps : int
        Environment steps between trainings, and updates in each.
    target_every : int
        Environment steps between moves of the target network.
    tau : float
        Share of the way the target network moves to the online one; 1 is a copy.
    """

    environment_id: str = "CartPole-v1"
    hidden: tuple[int, ...] = (120, 84)
    buffer_size: int = 10_000
    batch_size: int = 128
    gamma: float = 0.99
    tau: float = 1.0
    lr: float = 2.5e-4
    epsilon_start: float = 1.0
    epsilon_end: float = 0.05
    exploration_steps: int = 50_000
    learning_starts: int = 10_000
    train_every: int = 10
    gradient_steps: int = 1
    target_every: int = 500
    warm_up_steps: int = 11_000

    def epsilon(self, env_steps: int) -> float:
        """Give the probability of a random action after `env_steps`."""
        share = min(env_steps / self.exploration_steps, 1.0)
        return self.epsilon_start + share * (self.epsilon_end - self.epsilon_start)


ZOO_DQN = DQNSettings(
    hidden=(256, 256),
    buffer_size=100_000,
    batch_size=64,
    lr=2.3e-3,
    epsilon_end=0.04,
    exploration_steps=8_000,
    learning_starts=1_000,
    train_every=256,
    gradient_steps=128,
    target_every=10,
    warm_up_steps=2_048,
)
"""Those of rl_zoo3 2.9.2 for CartPole in 50,000 steps. Under CleanRL's, Huber's loss diverges there."""


@dataclass(frozen=True)
class SACSettings:
    """Soft actor-critic on one environment, with a temperature that is learnt.

    Attributes
    ----------
    lr, critic_lr : float
        Step sizes of the actor, and of critics and temperature.
    policy_frequency : int
        Updates of the critics between those of the actor, which are then as many at once.
    """

    environment_id: str = "Pendulum-v1"
    hidden: tuple[int, ...] = (256, 256)
    buffer_size: int = 1_000_000
    batch_size: int = 256
    gamma: float = 0.99
    tau: float = 0.005
    lr: float = 3e-4
    critic_lr: float = 1e-3
    learning_starts: int = 5_000
    policy_frequency: int = 2
    target_every: int = 1
    warm_up_steps: int = 5_100
