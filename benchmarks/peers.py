"""Other people's PPO with the same hyperparameters: stable-baselines3 in this process, CleanRL's script."""

import re
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from clocks import Clock

from fdrl_mpi.rl.hyperparameters import PPOConfig

WINDOW = 100
"""Training episodes whose mean return decides whether an environment is solved."""

_ROLLOUT = re.compile("SPS: ")
_RETURN = re.compile(r"global_step=(\d+), episodic_return=\[?([\d.]+)")


@dataclass(frozen=True)
class Solved:
    """Training seconds and environment steps until the mean return was reached; infinite if it never was."""

    seconds: float
    env_steps: float


def has_stable_baselines() -> bool:
    """Tell whether stable-baselines3 can be imported."""
    return find_spec("stable_baselines3") is not None


class StableBaselines:
    """stable-baselines3's PPO on gymnasium's environment.

    Parameters
    ----------
    settings : PPOConfig
    environment_id : str
    num_envs : int
    clock : Clock
    seed : int
    """

    name = "stable-baselines3"

    def __init__(
        self, settings: PPOConfig, environment_id: str, num_envs: int, clock: Clock, seed: int
    ) -> None:
        import torch
        from stable_baselines3 import PPO
        from stable_baselines3.common.env_util import make_vec_env

        torch.set_num_threads(1)
        self._clock = clock
        hidden = list(settings.network.hidden)
        self._model = PPO(
            "MlpPolicy",
            make_vec_env(environment_id, n_envs=num_envs, seed=seed),
            learning_rate=lambda remaining: settings.lr * remaining,
            n_steps=settings.num_steps,
            batch_size=settings.num_steps * num_envs // settings.num_minibatches,
            n_epochs=settings.num_epochs,
            gamma=settings.gamma,
            gae_lambda=settings.gae_lambda,
            clip_range=settings.clip_range,
            clip_range_vf=settings.clip_range,
            ent_coef=settings.entropy_coefficient,
            vf_coef=settings.value_coefficient,
            max_grad_norm=settings.max_gradient_norm,
            policy_kwargs={"net_arch": {"pi": hidden, "vf": hidden}, "activation_fn": torch.nn.Tanh},
            seed=seed,
            device="cpu",
        )

    def speed(self, env_steps: int) -> float:
        """Train for about `env_steps` and return environment steps per second."""
        before, started = self._model.num_timesteps, self._clock.now()
        self._model.learn(env_steps, reset_num_timesteps=False)
        env_steps = self._model.num_timesteps - before
        return float(env_steps / (self._clock.now() - started))

    def solve(self, goal: float, env_steps: int) -> Solved:
        """Train until the mean return of the last episodes is `goal`, for `env_steps` at most."""
        model, started = self._model, self._clock.now()

        def goes_on(local: dict[str, Any], _: dict[str, Any]) -> bool:
            episodes = model.ep_info_buffer or ()
            return len(episodes) < WINDOW or float(np.mean([e["r"] for e in episodes])) < goal

        model.learn(env_steps, callback=goes_on)
        if goes_on({}, {}):
            return Solved(np.inf, np.inf)
        return Solved(self._clock.now() - started, model.num_timesteps)


class CleanRL:
    """CleanRL's `ppo.py` as a script of its own; its start and its first rollout are not counted.

    Parameters
    ----------
    script : Path
    settings : PPOConfig
        Those of the script; nothing but the number of steps is read.
    environment_id : str
    num_envs : int
    clock : Clock
    seed : int
    """

    name = "CleanRL"

    def __init__(
        self,
        script: Path,
        settings: PPOConfig,
        environment_id: str,
        num_envs: int,
        clock: Clock,
        seed: int,
    ) -> None:
        self._words = [sys.executable, "-u", str(script), "--env-id", environment_id, "--no-cuda"]
        self._words += ["--num-envs", str(num_envs), "--seed", str(seed), "--total-timesteps"]
        self._samples = settings.num_steps * num_envs
        self._clock = clock

    def speed(self, env_steps: int) -> float:
        """Train for `env_steps` and return environment steps per second."""
        return [speed for _, speed in self._progress(env_steps)][-1]

    def solve(self, goal: float, env_steps: int) -> Solved:
        """Train until the mean return of the last episodes is `goal`, for `env_steps` at most."""
        returns: deque[float] = deque(maxlen=WINDOW)
        for line, speed in self._progress(env_steps):
            if found := _RETURN.search(line):
                returns.append(float(found[2]))
                if len(returns) == WINDOW and np.mean(returns) >= goal:
                    return Solved(float(found[1]) / speed, float(found[1]))
        return Solved(np.inf, np.inf)

    def _progress(self, env_steps: int) -> Iterator[tuple[str, float]]:
        """Give every line the script prints, and its environment steps per second so far."""
        started, speed, rollouts = 0.0, np.inf, 0
        for line, seconds in self._lines(env_steps):
            if _ROLLOUT.match(line):
                if rollouts == 0:
                    started = seconds
                elif seconds > started:
                    speed = rollouts * self._samples / (seconds - started)
                rollouts += 1
            yield line, speed

    def _lines(self, env_steps: int) -> Iterator[tuple[str, float]]:
        """Run the script; give its lines and its clock when they came."""
        command = [*self._words, str(env_steps)]
        with tempfile.TemporaryDirectory() as folder:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder)
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    yield line, self._clock.now_of(process.pid)
            finally:
                process.kill()
                process.wait()
