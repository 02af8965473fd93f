"""Signals that ask a run to stop: it finishes the round, saves, and leaves with a status that says so."""

import os
import signal
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Interrupt:
    """Remembers that a signal has come; a second SIGINT ends the process at once.

    Attributes
    ----------
    requested : bool
        Whether this rank was asked to stop. Ranks see a signal at different times: they agree on it.
    """

    def __init__(self) -> None:
        self.requested = False
        for number in _SIGNALS:
            signal.signal(number, self._request)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            os._exit(128 + number)
        self.requested = True
