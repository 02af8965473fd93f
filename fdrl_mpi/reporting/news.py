"""What can be known of a run from outside while it goes on; its files are read, never locked or touched."""

import re
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fdrl_mpi.record.run_directory import RunDirectory, Verdict
from fdrl_mpi.reporting.runs import Run, load_run
from fdrl_mpi.reporting.series import seconds_per_round

PATIENCE_S, PATIENCE_ROUNDS = 10.0, 5.0
"""How long a record may stay as it is before that is worth a word: the longer of the two."""
LAST_WORD_S = 60.0
"""After so long a minority's verdict is the run's: the others have not gone on."""
_TAIL_BYTES = 16384
_WARNING = re.compile(r"\S+ (\S+),\d+ (rank \d+) \S+ (?:WARNING|ERROR|CRITICAL) [\w.]+: (.*)")


@dataclass(frozen=True)
class News:
    """A run as it was last seen.

    Attributes
    ----------
    path : Path
        The run directory, which need not be there yet.
    run : Run or None
        The last record that could be read.
    verdict : Verdict or None
        How the run ended; None as long as it may go on.
    silent_s : float
        Age of the record.
    trouble : str
        Why there is nothing new to read; empty if there is.
    warnings : list of str
        The last ones of all ranks' logs, oldest first.
    """

    path: Path
    run: Run | None = None
    verdict: Verdict | None = None
    silent_s: float = 0.0
    trouble: str = ""
    warnings: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        """How the run ended, by its verdict; else "waiting", "silent" or "running"."""
        if self.verdict is not None:
            return self.verdict.outcome
        if self.trouble or self.run is None:
            return "waiting"
        return "silent" if self._is_silent(self.run) else "running"

    def _is_silent(self, run: Run) -> bool:
        """Tell whether the record should have grown by now."""
        round_s = float(np.nan_to_num(seconds_per_round(run.metrics)))
        return self.silent_s > max(PATIENCE_S, PATIENCE_ROUNDS * round_s)


class Watch:
    """Looks at a run directory again and again, and reads what has changed.

    Parameters
    ----------
    path : path
        A directory that is missing, a record that is being replaced or cannot be read: the next look may
        find more, and until then the last record counts.
    """

    def __init__(self, path: str | Path) -> None:
        self._directory = RunDirectory(path)
        self._run: Run | None = None
        self._seen: tuple[int, ...] = ()

    def look(self) -> News:
        """Read what is new. The verdict comes first: what is read after it is all there will be."""
        verdict = self._verdict()
        trouble = self._read_record()
        silent_s = max(time.time() - _written_s(self._directory.metrics), 0.0)
        if verdict is not None and verdict.outcome == "minority" and self._others_may_go_on():
            verdict = None
        return News(self._directory.path, self._run, verdict, silent_s, trouble, self._warnings())

    def _verdict(self) -> Verdict | None:
        try:
            return Verdict.read(self._directory.verdict)
        except ValueError:
            return None

    def _others_may_go_on(self) -> bool:
        """Tell whether the ranks that a minority has lost have written since, or may still do so."""
        ended_s = _written_s(self._directory.verdict)
        return time.time() - ended_s < LAST_WORD_S or _written_s(self._directory.metrics) > ended_s

    def _read_record(self) -> str:
        """Read the record if it is another one than last time; say what keeps it from being read."""
        directory = self._directory
        try:
            found = directory.metrics.stat()
        except OSError:
            if not directory.exists():
                return f"{directory.path} is not there"
            return "no round has ended" if directory.config.exists() else f"no run in {directory.path}"
        stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
        if stamp != self._seen:
            try:
                self._run, self._seen = load_run(directory.path), stamp
            except ValueError as error:
                return str(error)
        return ""

    def _warnings(self) -> list[str]:
        """Take the newest warnings out of the ends of the logs."""
        found: list[tuple[str, str]] = []
        for log in self._directory.logs.glob("rank_*.log"):
            for line in _tail(log):
                if match := _WARNING.fullmatch(line):
                    found.append((line[:23], f"{match[1]} {match[2]}: {match[3]}"))
        return [text for _, text in sorted(found)][-3:]


def _written_s(path: Path) -> float:
    """Give the time of day at which a file was written; now, if it is not there."""
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()


def _tail(path: Path) -> list[str]:
    """Read the last whole lines of a file; none of one that is not there or cannot be read."""
    try:
        with path.open("rb") as file:
            start = max(file.seek(0, 2) - _TAIL_BYTES, 0)
            file.seek(start)
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return lines[1:] if start else lines
