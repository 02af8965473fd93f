"""Faults on purpose, for tests and studies: this rank dies, stops, fails or dawdles where it is told to."""

import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Timer

VARIABLE = "FDRL_FAULTS"
"""Environment variable with the faults: ``rank=3,round=5,phase=exchange,action=kill; ...``"""

PHASES = (
    "start",
    "before_train",
    "train",
    "exchange",
    "mid_exchange",
    "after_exchange",
    "mirror",
    "publish",
    "mid_publish",
    "record",
    "checkpoint",
    "recovery",
)
ACTIONS = ("kill", "stop", "exit", "raise", "sleep")


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes
    ----------
    rank : int
        Of the job.
    round : int
    phase : str
        Of `PHASES`. "mid" is behind the rank's first message of the exchange or of the publication.
    action : str
        Of `ACTIONS`.
    delay_s : float
        Lets the rank go on for so long first; for "sleep", how long it does nothing.
    """

    rank: int
    round: int
    phase: str
    action: str
    delay_s: float = 0.0


class InjectedError(RuntimeError):
    """What the action "raise" raises."""


def parse_faults(text: str) -> list[Fault]:
    """Read the value of `VARIABLE`.

    Raises
    ------
    ValueError
        If it makes no sense; the message says what would.
    """
    faults = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        pairs = re.findall(r"(\w+)=([^,\s]+)", part)
        try:
            values = dict(pairs)
            fault = Fault(
                int(values.pop("rank")),
                int(values.pop("round")),
                values.pop("phase"),
                values.pop("action"),
                float(values.pop("delay_s", 0.0)),
            )
        except (KeyError, ValueError) as error:
            raise ValueError(f"{VARIABLE}: {part!r} lacks or misspells {error}") from error
        if values or fault.phase not in PHASES or fault.action not in ACTIONS:
            raise ValueError(
                f"{VARIABLE}: {part!r}: rank, round, phase (of {', '.join(PHASES)}), action (of "
                f"{', '.join(ACTIONS)}) and delay_s are known"
            )
        faults.append(fault)
    return faults


class Injector:
    """The faults of one rank.

    Parameters
    ----------
    faults : sequence of Fault
    rank : int
        Of the job.

    Attributes
    ----------
    phase : str
        Where this rank is; for the record of failures.
    """

    def __init__(self, faults: Sequence[Fault] = (), rank: int = 0) -> None:
        self._faults = [fault for fault in faults if fault.rank == rank]
        self.phase, self._round = "start", 0

    def at(self, round: int, phase: str) -> None:
        """Come to a phase of a round: do what is due there, once."""
        self.phase, self._round = phase, round
        for fault in [f for f in self._faults if (f.round, f.phase) == (round, phase)]:
            self._faults.remove(fault)
            if fault.action in ("sleep", "raise") or not fault.delay_s:
                _act(fault)
            else:
                Timer(fault.delay_s, _act, [fault]).start()

    def on_message(self) -> None:
        """Note that a message has been sent: in the middle of an exchange or a publication."""
        if self.phase in ("exchange", "publish"):
            self.at(self._round, f"mid_{self.phase}")


def _act(fault: Fault) -> None:
    print(f"fault at {time.time():.4f}: {fault}", file=sys.stderr, flush=True)
    if fault.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault.action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif fault.action == "exit":
        os._exit(3)
    elif fault.action == "raise":
        raise InjectedError(f"as {VARIABLE} wants: {fault}")
    else:
        time.sleep(fault.delay_s)
