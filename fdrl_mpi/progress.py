"""What a user sees while a run goes on."""

import logging
import time
from collections.abc import Mapping
from math import isnan

import numpy as np

from fdrl_mpi.federation.synchronous import End, Progress

LOG = logging.getLogger(__name__)
LONGEST_SILENCE_S = 10.0


class Teller:
    """Prints a plain line after each evaluation, and at least every ten seconds.

    mpirun gives the ranks a terminal even when its own output is a file, so a line that redraws itself is
    only shown where it was asked for.

    Parameters
    ----------
    style : "lines", "bar" or "none"
    unit : str
        What the learner counts its work in: "sweeps" are told as such, all others act and tell their steps.
    """

    def __init__(self, style: str, unit: str) -> None:
        self._style, self._sweeps = style, unit == "sweeps"
        self._told_round = 0
        self._told_s = time.monotonic()
        self._work = self._bytes = self._seconds = 0.0

    def __call__(self, progress: Progress) -> None:
        """Tell about a round, if there is reason to."""
        self._work += progress.gradient_steps if self._sweeps else progress.env_steps
        self._bytes += progress.sent_bytes
        self._seconds += progress.round_s
        is_last = progress.round == progress.rounds
        if self._style == "bar":
            ending = "\n" if is_last else ""
            print(f"\r{self._line(progress)}\033[K", end=ending, flush=True)
        elif self._style == "lines" and (is_last or self._is_due(progress)):
            LOG.info("%s", self._line(progress))
            self._told_round, self._told_s = progress.evaluated_round, time.monotonic()
            self._work = self._bytes = self._seconds = 0.0

    def _is_due(self, progress: Progress) -> bool:
        is_news = progress.evaluated_round > self._told_round
        return is_news or time.monotonic() - self._told_s > LONGEST_SILENCE_S

    def _line(self, progress: Progress) -> str:
        left_s = (progress.rounds - progress.round) * progress.wall_s / progress.round
        speed = _quantity(self._work / max(self._seconds, 1e-9)).rstrip()
        width = len(str(progress.rounds))
        parts = [
            f"round {progress.round:{width}d}/{progress.rounds}",
            *_results(progress),
            f"{speed} {'sweeps' if self._sweeps else 'steps'}/s",
            f"{_quantity(self._bytes)}B sent",
            f"ETA {left_s:.0f} s",
        ]
        return "  ".join(parts)


def result_text(end: End) -> str:
    """Say how good a run's last model is, to go behind the word of how it ended; empty if nothing tells."""
    parts = [f"{text} in the last round" for text in _exact(end.exact)]
    if end.returns is not None and np.isfinite(end.returns).any():
        worst = int(np.nanargmin(end.returns))
        mean = float(end.returns.mean())
        parts.append(f"mean return {_decimal(mean)}, worst {end.returns[worst]:.1f} (agent {worst + 1})")
    return f": {'; '.join(parts)}" if parts else ""


def _results(progress: Progress) -> list[str]:
    """Name what is known of the models: what is exact first, and then only the returns there are."""
    found = _exact(progress.exact)
    is_exact = bool(found)
    if progress.evaluated_round:
        mean, worst = _decimal(progress.mean_return), _decimal(progress.worst_return)
        found.append(f"return {mean} (worst agent {worst}) after round {progress.evaluated_round}")
    elif not is_exact:
        found.append("not evaluated yet")
    if not (is_exact and isnan(progress.train_return)):
        found.append(f"training {_decimal(progress.train_return)}")
    return found


def _exact(measures: Mapping[str, float]) -> list[str]:
    return [f"mean {name.replace('_', ' ')} {value:.4g}" for name, value in measures.items()]


def _decimal(value: float) -> str:
    """Write one decimal, and a dash for what is not known."""
    return "–" if isnan(value) else f"{value:.1f}"


def _quantity(value: float) -> str:
    """Write a number with three digits and a decimal prefix, ready for its unit."""
    for prefix in ("", "k", "M", "G"):
        if value < 999.5:
            return f"{value:.3g} {prefix}"
        value /= 1000.0
    return f"{value:.3g} T"
