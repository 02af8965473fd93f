"""A clock for waits."""

import time
from collections.abc import Callable

LONGEST_TURN_S = 1.0
"""More than this passes between two turns of a wait only if the process that waits was stopped."""


class WaitingClock:
    """A clock for waits, which stands still while this process does.

    Who waits reads it at every turn. If much time has passed since then, this process was stopped, perhaps
    with the whole job, and nobody can be blamed for that time.

    Parameters
    ----------
    read : callable
        A clock that never goes back, in seconds.
    """

    def __init__(self, read: Callable[[], float] = time.monotonic) -> None:
        self._read, self._last_s, self._lost_s = read, read(), 0.0

    def now_s(self) -> float:
        """Read it."""
        now_s = self._read()
        if now_s - self._last_s > LONGEST_TURN_S:
            self._lost_s += now_s - self._last_s
        self._last_s = now_s
        return now_s - self._lost_s

    def note_work(self) -> None:
        """Let what this process did since the last reading count as time, however long it took."""
        self._last_s = self._read()
