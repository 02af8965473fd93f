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


def log_to_file(path: Path, rank: int, host: str) -> None:
    """Also keep this rank's messages in a file of its own, made with the first message."""
    handler = logging.FileHandler(path, delay=True)
    line = f"%(asctime)s rank {rank} {host} %(levelname)s %(name)s: %(message)s"
    handler.setFormatter(logging.Formatter(line))
    logging.getLogger("fdrl_mpi").addHandler(handler)
