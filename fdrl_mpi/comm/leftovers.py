"""Files in shared memory that a dead process could not remove any more: their names tell whose they were."""

from contextlib import suppress
from pathlib import Path

FOLDER = "/dev/shm"


def prefix(pid: int) -> str:
    """Begin the names of what a process makes."""
    return f"fdrl_mpi_{pid}_"


def clear_away(pid: int) -> None:
    """Remove what a dead process of this host has left."""
    for path in Path(FOLDER).glob(f"{prefix(pid)}*"):
        with suppress(OSError):
            path.unlink(missing_ok=True)
