"""Seconds spent in each phase of a round, on the wall and on the processor."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter, process_time


class Clock:
    """Adds up wall seconds by phase until they are taken."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._taken = process_time()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the wall time of the block as ``NAME_s``, and its processor time as ``NAME_cpu_s``.

        Where ranks share cores, the wall time of a phase holds the time in which others had the core.
        """
        wall_s, cpu_s = perf_counter(), process_time()
        try:
            yield
        finally:
            self._add(f"{name}_s", perf_counter() - wall_s)
            self._add(f"{name}_cpu_s", process_time() - cpu_s)

    def take(self) -> dict[str, float]:
        """Return the seconds so far, and as ``cpu_s`` this rank's processor time since the last call."""
        now = process_time()
        seconds = self._seconds | {"cpu_s": now - self._taken}
        self._seconds, self._taken = {}, now
        return seconds

    def _add(self, name: str, seconds: float) -> None:
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds
