"""How a run ended. The exit status of mpirun proves nothing after a failure; this file does."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from fdrl_mpi.record.atomic_file import anybody, write_json, write_json_first


@dataclass(frozen=True)
class Verdict:
    """The contents of `verdict.json`.

    Attributes
    ----------
    outcome : "finished", "stopped", "failed" or "minority"
        All rounds done; ended early on purpose, its state saved; ended by an error; too few ranks were left
        to go on. All but the first go on from the newest checkpoint.
    round, rounds : int
        The last round done, and how many were wanted.
    reason : str
        Why it ended, for a person.
    final_evaluation_return : float or None
        Mean return of the final model; None if it was not evaluated.
    wall_s : float
        Training time, summed over restarts.
    exact : dict
        Means of the last round's exact measures, by variable; empty where learners only sample.
    failures : list of dict
        What the run has survived, summed over restarts: round, phase, who was lost or came back, seconds
        until it went on.
    took_part : list of dict
        Ranges of rounds, first and last, with the ids of the agents whose updates are in their models.
    """

    outcome: Literal["finished", "stopped", "failed", "minority"]
    round: int
    rounds: int
    reason: str
    final_evaluation_return: float | None
    wall_s: float
    exact: dict[str, float] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)
    took_part: list[dict[str, Any]] = field(default_factory=list)

    def write(self, path: str | Path, check: Callable[[], None] = anybody) -> None:
        """Write the file atomically; a return that is not finite becomes null, as JSON has no such number."""
        write_json(path, self._content, check)

    def write_first(self, path: str | Path) -> bool:
        """Write the file where none is, whoever else tries; return whether this one did."""
        return write_json_first(path, self._content)

    @property
    def _content(self) -> dict[str, Any]:
        result = self.final_evaluation_return
        known = result is not None and math.isfinite(result)
        return asdict(self if known else replace(self, final_evaluation_return=None))

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read the file.

        Raises
        ------
        ValueError
            If it is missing or not a verdict.
        """
        try:
            return cls(**json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"{path}: no usable verdict: {error}") from error
