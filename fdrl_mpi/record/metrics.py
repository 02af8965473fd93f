"""What the root records: one row per round, in a file that is complete at every instant."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fdrl_mpi.record.atomic_file import anybody, replacing
from fdrl_mpi.record.metrics_file import AgentFact, Attribute, Metrics, metrics_image, read_metrics
from fdrl_mpi.record.variables import VARIABLES

__all__ = [
    "AgentFact",
    "Attribute",
    "Metrics",
    "MetricsRecord",
    "NullRecord",
    "Record",
    "Row",
    "read_metrics",
]

Row: TypeAlias = Mapping[str, float | NDArray[np.generic]]
"""Values of one round by variable name: a number, or one number per agent."""

_NAMES = frozenset(variable.name for variable in VARIABLES)
_INITIAL_CAPACITY = 64
_MIN_INTERVAL_S = 1.0
_MIN_INTERVAL_WRITES = 50.0  # between two writes lie this many times the last one's duration: 2 % of the run


class Record(Protocol):
    """Where a round is recorded."""

    @property
    def last_round(self) -> int: ...
    def append(self, round: int, values: Row) -> None: ...
    def amend(self, round: int, values: Row) -> None: ...
    def rewind(self, round: int) -> None: ...
    def write_if_due(self) -> None: ...
    def write(self, durable: bool = True) -> None: ...


class NullRecord:
    """The record of a rank that writes none: every method does nothing."""

    last_round = 0

    def append(self, round: int, values: Row) -> None: ...
    def amend(self, round: int, values: Row) -> None: ...
    def rewind(self, round: int) -> None: ...
    def write_if_due(self) -> None: ...
    def write(self, durable: bool = True) -> None: ...


class MetricsRecord:
    """All rows, in memory, written to `path` as a whole.

    Every write makes a new file and renames it over the old one: a kill at any moment leaves the last
    complete file, and a reader may hold it open for as long as it likes.

    Parameters
    ----------
    path : path
        Usually ``RunDirectory.metrics``; nothing is created before the first write.
    agents : sequence of int, length K
        Agent ids, the order of the columns.
    attributes : mapping
        Facts about the run.
    agent_facts : mapping of AgentFact
        Facts about each agent, K values each.
    check : callable
        Called before each write takes its name: see `replacing`.

    Raises
    ------
    ValueError
        If a fact has not K values, or the name of a variable.

    Notes
    -----
    8 bytes per number: 16 agents and 10 000 rounds take 30 MB.
    """

    def __init__(
        self,
        path: str | Path,
        agents: Sequence[int],
        attributes: Mapping[str, Attribute],
        agent_facts: Mapping[str, AgentFact],
        check: Callable[[], None] = anybody,
    ) -> None:
        self.path, self._check = Path(path), check
        self._agents = np.array(agents, dtype=np.int64)
        self._attributes = dict(attributes)
        self._agent_facts = dict(agent_facts)
        _check_facts(self._agent_facts, len(agents))
        self._rows = np.empty(_INITIAL_CAPACITY, dtype=_row_dtype(len(agents)))
        self._num_rounds = 0
        self._first_round = 0
        self._due_s = -np.inf
        self._failing = False

    @classmethod
    def resume(
        cls,
        path: str | Path,
        agents: Sequence[int],
        attributes: Mapping[str, Attribute],
        agent_facts: Mapping[str, AgentFact],
        check: Callable[[], None] = anybody,
    ) -> Self:
        """Go on with the rows of an existing file; attributes and facts are the given ones.

        Raises
        ------
        ValueError
            If the file cannot be read or has other agents or unknown variables.
        """
        stored = read_metrics(path)
        if stored.agents.tolist() != list(agents):
            raise ValueError(f"{path} has the agents {stored.agents.tolist()}, the run has {list(agents)}")
        record = cls(path, agents, attributes, agent_facts, check)
        for row, round in enumerate(stored.rounds.tolist()):
            record.append(round, {name: values[row] for name, values in stored.values.items()})
        return record

    @property
    def last_round(self) -> int:
        """The last recorded round; the one before the first if there is none."""
        return self._first_round + self._num_rounds - 1

    def append(self, round: int, values: Row) -> None:
        """Add the row of a round; variables without a value become NaN.

        Raises
        ------
        ValueError
            If the round does not follow the last one, a name is unknown or a shape wrong. Nothing is added.
        """
        if self._num_rounds == 0:
            self._first_round = round
        if round != self._first_round + self._num_rounds:
            raise ValueError(f"round {round} after round {self._first_round + self._num_rounds - 1}")
        if self._num_rounds == len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
        self._rows[self._num_rounds] = np.nan
        self._fill(self._num_rounds, values)
        self._num_rounds += 1

    def amend(self, round: int, values: Row) -> None:
        """Set values of a recorded round, such as those of an evaluation that ended later.

        Raises
        ------
        ValueError
            If the round is not recorded, a name is unknown or a shape wrong.
        """
        index = round - self._first_round
        if not 0 <= index < self._num_rounds:
            raise ValueError(f"round {round} is not among the {self._num_rounds} recorded ones")
        self._fill(index, values)

    def rewind(self, round: int) -> None:
        """Forget the rows after `round`; they are to be done again."""
        self._num_rounds = min(max(round - self._first_round + 1, 0), self._num_rounds)

    def write_if_due(self) -> None:
        """Write, if that costs little compared with the time since the last write.

        A failure (disk full) is logged once and does not stop the run; the next write has all rows.
        """
        if time.monotonic() < self._due_s:
            return
        try:
            self.write(durable=False)
        except OSError as error:
            if not self._failing:
                logging.getLogger(__name__).warning(
                    "%s not written, will be tried again: %s", self.path, error
                )
            self._failing = True

    def write(self, durable: bool = True) -> None:
        """Write now.

        Parameters
        ----------
        durable : bool
            Wait for the disk.

        Raises
        ------
        OSError
            If the file system refuses; the old file stays.
        """
        start_s = time.monotonic()
        try:
            image = metrics_image(self._snapshot())
            with replacing(self.path, durable, self._check) as temporary:
                temporary.write_bytes(image)
            self._failing = False
        finally:
            end_s = time.monotonic()
            self._due_s = end_s + max(_MIN_INTERVAL_S, _MIN_INTERVAL_WRITES * (end_s - start_s))

    def _fill(self, index: int, values: Row) -> None:
        for name, value in values.items():
            if name not in _NAMES:
                raise ValueError(f"{name!r} is not among the variables of the record (variables.py)")
            expected = self._rows.dtype[name].shape
            if np.shape(value) != expected:
                raise ValueError(f"{name}: shape {np.shape(value)}, expected {expected}")
        for name, value in values.items():
            self._rows[name][index] = value

    def _snapshot(self) -> Metrics:
        rounds = self._first_round + np.arange(self._num_rounds, dtype=np.int64)
        values = {name: self._rows[name][: self._num_rounds] for name in _NAMES}
        return Metrics(self._attributes, rounds, self._agents, values, self._agent_facts)


def _row_dtype(num_agents: int) -> np.dtype[np.void]:
    """One float64 per round, or one per agent and round, under each variable's name."""
    return np.dtype(
        [(v.name, np.float64, (num_agents,) if "agent" in v.dimensions else ()) for v in VARIABLES]
    )


def _check_facts(agent_facts: Mapping[str, AgentFact], num_agents: int) -> None:
    for name, fact in agent_facts.items():
        if name in _NAMES or name in ("round", "agent"):
            raise ValueError(f"agent fact {name!r} has the name of a variable")
        if np.shape(fact.values) != (num_agents,):
            raise ValueError(f"agent fact {name!r} has shape {np.shape(fact.values)}, not ({num_agents},)")
