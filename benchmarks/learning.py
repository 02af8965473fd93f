"""This program's PPO as the benchmarks run it: alone, made by the same functions as in a federated run."""

from collections import deque
from functools import wraps
from typing import Any

import numpy as np
from clocks import Clock
from limit import Arithmetic, Limit, Replay, measure_limit
from peers import WINDOW, Solved

from fdrl_mpi.build_agent import make_environment, make_model
from fdrl_mpi.config import EnvironmentConfig
from fdrl_mpi.envs.vector import VectorEnv
from fdrl_mpi.rl.hyperparameters import PPOConfig
from fdrl_mpi.rl.learner import Budget, TrainStats
from fdrl_mpi.rl.objective import LocalObjective
from fdrl_mpi.rl.ppo import PPO
from fdrl_mpi.rl.rollout import Rollout
from fdrl_mpi.streams import stream

PHASES = ("environment", "inference", "batch", "update", "other")
SEED = 1


class OwnPPO:
    """A learner on one environment, without a federation around it.

    Parameters
    ----------
    settings : PPOConfig
    engine : "numpy" or "torch"
    environment_id : str
    num_envs : int
    clock : Clock
    seed : int
    """

    def __init__(
        self,
        settings: PPOConfig,
        engine: str,
        environment_id: str,
        num_envs: int,
        clock: Clock,
        seed: int = SEED,
    ) -> None:
        self._settings, self._clock, self._seed = settings, clock, seed
        self.name = f"fdrl_mpi ({engine})"
        self.environment = make_environment(EnvironmentConfig(id=environment_id), [{}] * num_envs)
        self.model = make_model(settings, seed, self.environment, engine, "cpu")
        self.learner = PPO(settings, self.model, self.environment, LocalObjective())
        self.samples = settings.num_steps * num_envs

    def train(self, env_steps: int, lr_share: float = 1.0, round: int = 1) -> TrainStats:
        """Train for `env_steps`, rounded down to whole rollouts."""
        generator = stream(self._seed, "train", 1, round)
        return self.learner.train(Budget(env_steps, lr_share * self._settings.lr, generator))

    def speed(self, env_steps: int) -> float:
        """Train for about `env_steps` and return environment steps per second."""
        started = self._clock.now()
        stats = self.train(env_steps)
        return stats.env_steps / (self._clock.now() - started)

    def solve(self, goal: float, env_steps: int) -> Solved:
        """Train until the mean return of the last episodes is `goal`, for `env_steps` at most.

        The step size falls after every rollout, to 0 at `env_steps`.
        """
        returns: deque[float] = deque(maxlen=WINDOW)
        rounds, started = env_steps // self.samples, self._clock.now()
        for number in range(1, rounds + 1):
            stats = self.train(self.samples, 1.0 - (number - 1) / rounds, number)
            returns.extend(result for result, _ in stats.episodes)
            if len(returns) == WINDOW and np.mean(returns) >= goal:
                return Solved(self._clock.now() - started, number * self.samples)
        return Solved(np.inf, np.inf)


class WatchedPPO(OwnPPO):
    """The same learner with a stopwatch round each phase, which costs it some percent of its speed."""

    def __init__(
        self, settings: PPOConfig, engine: str, environment_id: str, num_envs: int, clock: Clock
    ) -> None:
        super().__init__(settings, engine, environment_id, num_envs, clock)
        self._seconds = dict.fromkeys(("rollout", *PHASES[:1], *PHASES[2:4]), 0.0)
        self._watch(self.environment, "step", "environment")
        self._watch(self.learner._rollout, "collect", "rollout")
        self._watch(self.learner, "_batch", "batch")
        self._watch(self.learner, "_update", "update")

    def phases(self, env_steps: int) -> dict[str, float]:
        """Train for about `env_steps`; return microseconds of each phase for one environment step."""
        seconds = self._seconds
        seconds.update(dict.fromkeys(seconds, 0.0))
        started = self._clock.now()
        env_steps = self.train(env_steps).env_steps
        total = self._clock.now() - started
        rollout, environment, batch, update = seconds.values()
        phases = (environment, rollout - environment, batch, update, total - rollout - batch - update)
        return dict(zip(PHASES, (1e6 * taken / env_steps for taken in phases), strict=True))

    def _watch(self, owner: VectorEnv | Rollout | PPO, method: str, phase: str) -> None:
        work, seconds, now = getattr(owner, method), self._seconds, self._clock.now

        @wraps(work)
        def timed(*arguments: Any) -> Any:
            started = now()
            result = work(*arguments)
            seconds[phase] += now() - started
            return result

        setattr(owner, method, timed)


class OwnLimit:
    """The limit of a learner: its environment under its own policy, and its arithmetic.

    Parameters
    ----------
    settings : PPOConfig
    environment_id : str
    num_envs : int
    clock : Clock
    """

    def __init__(self, settings: PPOConfig, environment_id: str, num_envs: int, clock: Clock) -> None:
        self._clock = clock
        environment = make_environment(EnvironmentConfig(id=environment_id), [{}] * num_envs)
        self._replay = Replay(environment, settings.num_steps)
        shape = make_model(settings, SEED, environment, "numpy", "cpu").network.shape
        self._arithmetic = Arithmetic(settings, shape, num_envs)

    def measure(self, own: OwnPPO, seconds: float) -> Limit:
        """Measure for about `seconds` with the policy `own` has learnt so far."""
        self._replay.record(own.model.network, own.model.distribution.greedy)
        return measure_limit(self._replay, self._arithmetic, self._clock, seconds)
