"""What is compared on one core: measured once in each turn, reported as medians."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from clocks import Clock
from learning import PHASES, OwnLimit, OwnPPO, WatchedPPO
from limit import Limit
from peers import CleanRL, Solved, StableBaselines
from reporting import Spread

from fdrl_mpi.rl.hyperparameters import PPOConfig

CALIBRATION_STEPS = 20_000
LIMIT_PARTS = ("environment_s", "products_s", "elementwise_s")


class PeerCase:
    """Another program on gymnasium's environment; every turn lasts about `seconds`."""

    def __init__(
        self, peer: StableBaselines | CleanRL, environment_id: str, num_envs: int, seconds: float
    ) -> None:
        self.name = peer.name
        self._place = {"environment": environment_id, "num_envs": num_envs}
        self._speed = peer.speed
        self._env_steps = _calibrated(peer.speed, seconds)
        self._speeds: list[float] = []

    @property
    def median(self) -> float:
        """Environment steps per second."""
        return Spread.of(self._speeds).median

    def measure(self) -> None:
        """Take one turn."""
        self._speeds.append(self._speed(self._env_steps))

    def row(self) -> dict[str, Any]:
        """Report the median."""
        speed = Spread.of(self._speeds)
        named = {"program": self.name, "learner": "ppo", "engine": "torch"}
        return named | self._place | {"env_steps_per_s": speed.median, "spread": speed.relative}


class OwnCase:
    """This program's learner with one engine on one environment; every turn has three parts of `seconds`."""

    def __init__(
        self,
        settings: PPOConfig,
        engine: str,
        environment_id: str,
        num_envs: int,
        clock: Clock,
        seconds: float,
    ) -> None:
        case = settings, engine, environment_id, num_envs, clock
        self._own, self._watched = OwnPPO(*case), WatchedPPO(*case)
        self._limit = OwnLimit(settings, environment_id, num_envs, clock)
        self._facts = {
            "program": "fdrl_mpi " + engine,
            "learner": "ppo",
            "engine": engine,
            "environment": environment_id,
            "num_envs": num_envs,
            "num_steps": settings.num_steps,
        }
        self._seconds = seconds
        self._env_steps = _calibrated(self._own.speed, seconds)
        self._speeds: list[float] = []
        self._limits: list[Limit] = []
        self._phases: list[dict[str, float]] = []

    def measure(self) -> None:
        """Take one turn: speed, limit, phases."""
        self._speeds.append(self._own.speed(self._env_steps))
        self._limits.append(self._limit.measure(self._own, self._seconds))
        self._phases.append(self._watched.phases(self._env_steps))

    def row(self, peers: Sequence[PeerCase]) -> dict[str, Any]:
        """Report medians, for one environment step where they are microseconds."""
        speed, samples = Spread.of(self._speeds), self._own.samples
        limit = Spread.of([samples / limit.seconds for limit in self._limits])
        phases = {phase: _median([taken[phase] for taken in self._phases]) for phase in PHASES}
        parts = {part: _median([getattr(limit, part) for limit in self._limits]) for part in LIMIT_PARTS}
        return {
            **self._facts,
            "env_steps_per_s": speed.median,
            "spread": speed.relative,
            "seconds": {phase: 1e-6 * taken for phase, taken in phases.items()},
            **{f"{phase}_us": taken for phase, taken in phases.items()},
            "limit_steps_per_s": limit.median,
            "limit_seconds": {part: taken / samples for part, taken in parts.items()},
            "ratio_to_limit": speed.median / limit.median,
            **{f"ratio_to_{peer.name}": speed.median / peer.median for peer in peers},
        }


def solve_row(name: str, environment_id: str, num_envs: int, solved: Sequence[Solved]) -> dict[str, Any]:
    """Report how long each seed took, and the medians; infinite where a seed never got there."""
    return {
        "program": name,
        "learner": "ppo",
        "environment": environment_id,
        "num_envs": num_envs,
        "median_s": _median([one.seconds for one in solved]),
        "median_env_steps": _median([one.env_steps for one in solved]),
        "seconds": [round(one.seconds, 2) for one in solved],
        "env_steps": [one.env_steps for one in solved],
    }


def _median(values: Sequence[float]) -> float:
    return float(np.median(values))


def _calibrated(speed: Callable[[int], float], seconds: float) -> int:
    """Warm up; return how many steps take about `seconds`."""
    return max(CALIBRATION_STEPS, int(speed(CALIBRATION_STEPS) * seconds))
