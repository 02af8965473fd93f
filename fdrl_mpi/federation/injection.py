"""Faults on purpose, for tests and studies: this rank dies, stops, fails or dawdles where it is told to."""

import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from threading import Timer

import numpy as np

from fdrl_mpi.arrays import FloatMatrix, FloatVector

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
ACTIONS = ("kill", "stop", "exit", "raise", "sleep", "corrupt")
CORRUPTIBLE = ("train", "after_exchange")
"""Phases in which a rank has numbers of its own in hand: its agents' models, the next model."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes
    ----------
    rank : int
        Of the job.
    round : int
    phase : str
        Of `PHASES`. "mid" is behind the first message of the exchange or of the publication that the rank has
        sent or received.
    action : str
        Of `ACTIONS`; "corrupt" is known in `CORRUPTIBLE` phases and flips a bit, as broken memory does.
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
            if len(values) < len(pairs):
                raise ValueError("a name that stands there twice")
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
        if fault.action == "corrupt" and fault.phase not in CORRUPTIBLE:
            raise ValueError(
                f"{VARIABLE}: {part!r}: corrupt needs one of the phases {', '.join(CORRUPTIBLE)}"
            )
        if not 0.0 <= fault.delay_s < inf or min(fault.rank, fault.round) < 0:
            raise ValueError(f"{VARIABLE}: {part!r}: rank, round and delay_s are at least 0, and finite")
        if fault.action == "sleep" and not fault.delay_s:
            raise ValueError(f"{VARIABLE}: {part!r}: sleep needs delay_s, the seconds it lasts")
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

    def at(self, round: int, phase: str, values: FloatMatrix | FloatVector | None = None) -> None:
        """Come to a phase of a round, with `values` in hand: do what is due there, once."""
        self.phase, self._round = phase, round
        for fault in [f for f in self._faults if (f.round, f.phase) == (round, phase)]:
            self._faults.remove(fault)
            if fault.action == "corrupt":
                _corrupt(fault, values)
            elif fault.action in ("sleep", "raise") or not fault.delay_s:
                _act(fault)
            else:
                Timer(fault.delay_s, _act, [fault]).start()

    def on_message(self) -> None:
        """Note that a message has come or gone: in the middle of an exchange or a publication."""
        if self.phase in ("exchange", "publish"):
            self.at(self._round, f"mid_{self.phase}")


def _corrupt(fault: Fault, values: FloatMatrix | FloatVector | None) -> None:
    """Flip the first bit of the exponent of the number in the middle."""
    _tell(fault)
    if values is not None and values.size:
        bits = values.reshape(-1).view(np.uint32)
        bits[values.size // 2] ^= np.uint32(1 << 30)


def _tell(fault: Fault) -> None:
    print(f"fault at {time.time():.4f}: {fault}", file=sys.stderr, flush=True)


def _act(fault: Fault) -> None:
    _tell(fault)
    if fault.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault.action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif fault.action == "exit":
        os._exit(3)
    elif fault.action == "raise":
        raise InjectedError(f"as {VARIABLE} wants in phase {fault.phase}")
    else:
        time.sleep(fault.delay_s)
