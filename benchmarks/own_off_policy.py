"""This program's DQN and SAC with the settings of the peers, alone, as a federated run makes them."""

from typing import Any, ClassVar

import numpy as np
from clocks import Clock
from numpy.typing import NDArray
from off_policy_peers import greedy_returns
from off_policy_settings import DQNSettings, SACSettings

from fdrl_mpi.build_agent import learner_class, make_environment, make_model
from fdrl_mpi.config import EnvironmentConfig
from fdrl_mpi.rl.denormals import flush_denormals
from fdrl_mpi.rl.hyperparameters import DQNConfig, LearnerConfig, QNetworkConfig, SACConfig, SoftNetworkConfig
from fdrl_mpi.rl.learner import Budget
from fdrl_mpi.rl.objective import LocalObjective
from fdrl_mpi.streams import stream


class OwnLearner:
    """A learner in one environment; the steps before its first gradient are the warm-up.

    Parameters
    ----------
    settings : DQNSettings or SACSettings
    clock : Clock
    seed : int
    """

    place: ClassVar[str] = "own"
    prefix: ClassVar[str] = ""

    def __init__(self, settings: DQNSettings | SACSettings, clock: Clock, seed: int) -> None:
        flush_denormals()
        self.name = f"fdrl_mpi, {self.place} environment"
        self._clock, self._seed, self._rounds, self.env_steps = clock, seed, 0, 0
        self._id = settings.environment_id
        self._settings = _config(settings)
        environment = make_environment(EnvironmentConfig(id=self.prefix + self._id), [{}])
        self._model = make_model(self._settings, seed, environment, "numpy", "cpu")
        make = learner_class(str(self._settings.__struct_config__.tag))
        self._learner = make(self._settings, self._model, environment, LocalObjective())
        self._train(settings.warm_up_steps)

    def run(self, num_steps: int) -> float:
        """Train for so many environment steps; return the seconds."""
        started = self._clock.now()
        self._train(num_steps)
        return self._clock.now() - started

    def evaluate(self, episodes: int) -> list[float]:
        """Return the returns of greedy episodes in gymnasium's environment."""
        act = self._model.greedy(1)

        def policy(observation: NDArray[Any]) -> Any:
            chosen = act(np.asarray(observation, np.float32).reshape(1, -1))[0]
            return int(chosen) if chosen.ndim == 0 else chosen

        return greedy_returns(self._id, policy, episodes)

    def _train(self, num_steps: int) -> None:
        self._rounds += 1
        generator = stream(self._seed, "train", 1, self._rounds)
        self.env_steps += self._learner.train(Budget(num_steps, self._settings.lr, generator)).env_steps


class OwnLearnerInGymnasium(OwnLearner):
    """The same in gymnasium's environment."""

    place = "gymnasium's"
    prefix = "gym:"


def _config(settings: DQNSettings | SACSettings) -> LearnerConfig:
    """Translate the peers' settings."""
    if isinstance(settings, SACSettings):
        return SACConfig(
            lr=settings.lr,
            critic_lr=settings.critic_lr,
            gamma=settings.gamma,
            batch_size=settings.batch_size,
            buffer_size=settings.buffer_size,
            learning_starts=settings.learning_starts,
            policy_frequency=settings.policy_frequency,
            tau=settings.tau,
            network=SoftNetworkConfig(hidden=settings.hidden),
        )
    return DQNConfig(
        lr=settings.lr,
        gamma=settings.gamma,
        batch_size=settings.batch_size,
        buffer_size=settings.buffer_size,
        learning_starts=settings.learning_starts,
        train_every=settings.train_every,
        gradient_steps=settings.gradient_steps,
        target_every=settings.target_every,
        tau=settings.tau,
        epsilon_start=settings.epsilon_start,
        epsilon_end=settings.epsilon_end,
        epsilon_steps=settings.exploration_steps,
        network=QNetworkConfig(hidden=settings.hidden),
    )
