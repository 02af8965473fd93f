"""Messages: INFO of the root on standard output, warnings of all ranks on standard error, a file per rank."""

import logging
import sys
from pathlib import Path


def log_to_terminal(rank: int, host: str, level: str) -> None:
    """Send this rank's messages to the terminal; mpirun merges the ranks' streams. Called again, anew.

    Parameters
    ----------
    rank : int
    host : str
        Shown in front of warnings of ranks other than the root.
    level : "debug", "info" or "warning"
        Least severe message that is logged.
    """
    root = logging.getLogger("fdrl_mpi")
    root.setLevel(level.upper())
    for old in [handler for handler in root.handlers if type(handler) is logging.StreamHandler]:
        root.removeHandler(old)
    warnings = logging.StreamHandler(sys.stderr)
    warnings.setLevel(logging.WARNING)
    prefix = "" if rank == 0 else f"[rank {rank} {host}] "
    warnings.setFormatter(logging.Formatter(f"{prefix}%(levelname)s: %(message)s"))
    root.addHandler(warnings)
    if rank == 0:
        told = logging.StreamHandler(sys.stdout)
        told.addFilter(lambda record: record.levelno < logging.WARNING)
        told.setFormatter(logging.Formatter("%(message)s"))
        root.addHandler(told)


class LogFile(logging.FileHandler):
    """A log file on a disk that may be full or read-only: says so once, and then says what it can."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, delay=True)
        self._is_failing = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:  # it could not be opened
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the name is that of logging)
        """Print the error that is being handled."""
        if not self._is_failing:
            self._is_failing = True
            print(f"WARNING: {self.baseFilename} is not complete: {sys.exc_info()[1]}", file=sys.stderr)


def log_to_file(path: Path, rank: int, host: str) -> None:
    """Also keep this rank's messages in a file of its own, made with the first message."""
    handler = LogFile(path)
    line = f"%(asctime)s rank {rank} {host} %(levelname)s %(name)s: %(message)s"
    handler.setFormatter(logging.Formatter(line))
    logging.getLogger("fdrl_mpi").addHandler(handler)
