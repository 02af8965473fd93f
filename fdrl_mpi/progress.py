"""What a user sees while a run goes on."""

import logging
import time

from fdrl_mpi.federation.synchronous import Progress

LOG = logging.getLogger(__name__)
LONGEST_SILENCE_S = 10.0


class Teller:
    """Prints a plain line after each evaluation, and at least every ten seconds.

    mpirun gives the ranks a terminal even when its own output is a file, so a line that redraws itself is
    only shown where it was asked for.

    Parameters
    ----------
    style : "lines", "bar" or "none"
    """

    def __init__(self, style: str) -> None:
        self._style = style
        self._told_round = 0
        self._told_s = time.monotonic()
        self._steps = self._bytes = self._seconds = 0.0

    def __call__(self, progress: Progress) -> None:
        """Tell about a round, if there is reason to."""
        self._steps += progress.env_steps
        self._bytes += progress.sent_bytes
        self._seconds += progress.round_s
        is_last = progress.round == progress.rounds
        if self._style == "bar":
            ending = "\n" if is_last else ""
            print(f"\r{self._line(progress)}\033[K", end=ending, flush=True)
        elif self._style == "lines" and (is_last or self._is_due(progress)):
            LOG.info("%s", self._line(progress))
            self._told_round, self._told_s = progress.evaluated_round, time.monotonic()
            self._steps = self._bytes = self._seconds = 0.0

    def _is_due(self, progress: Progress) -> bool:
        is_news = progress.evaluated_round > self._told_round
        return is_news or time.monotonic() - self._told_s > LONGEST_SILENCE_S

    def _line(self, progress: Progress) -> str:
        evaluated = "not evaluated yet"
        if progress.evaluated_round:
            evaluated = (
                f"return {progress.mean_return:.1f} (worst agent {progress.worst_return:.1f}) "
                f"after round {progress.evaluated_round}"
            )
        left_s = (progress.rounds - progress.round) * progress.wall_s / progress.round
        speed = _quantity(self._steps / max(self._seconds, 1e-9))
        width = len(str(progress.rounds))
        return (
            f"round {progress.round:{width}d}/{progress.rounds}  {evaluated}  "
            f"training {progress.train_return:.1f}  {speed} steps/s  {_quantity(self._bytes)}B sent  "
            f"ETA {left_s:.0f} s"
        )


def _quantity(value: float) -> str:
    """Write a number with three digits and a decimal prefix, ready for its unit."""
    for prefix in ("", "k", "M", "G"):
        if value < 999.5:
            return f"{value:.3g} {prefix}"
        value /= 1000.0
    return f"{value:.3g} T"
