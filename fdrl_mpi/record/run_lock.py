"""One live process per run directory."""

import errno
import fcntl
import json
import os
import socket
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_NO_FLOCK = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)


class RunInUse(ValueError):  # noqa: N818 (the name says what is wrong)
    """Another process writes to the run directory.

    Attributes
    ----------
    host : str
    pid : int
        Of that process; "unknown" and 0 if it has just begun.
    """

    def __init__(self, path: Path, holder: dict[str, Any]) -> None:
        self.host = str(holder.get("host", "unknown"))
        self.pid = int(holder.get("pid", 0))
        super().__init__(
            f"{path.parent} is in use: process {self.pid} on {self.host} has been writing to it since "
            f"{holder.get('start', 'just now')}. Two runs would overwrite each other's files. "
            f"Choose another directory, or end that process; if it is dead for sure, delete {path}"
        )


class RunLock:
    """A lock that dies with its process, however that dies.

    The operating system holds it (``flock``), so that it works for all processes of one machine and, on NFS,
    of all machines. Where the file system has no ``flock``, the file's contents decide: a process on another
    host is taken for alive, and two processes that start within a millisecond are not told apart.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock; no effect if this object has it.

        Raises
        ------
        RunInUse
            If another process, or another object of this one, has it.
        """
        if self._descriptor is not None:
            return
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._claim(descriptor)
            start = datetime.now(UTC).isoformat(timespec="seconds")
            holder = {"host": socket.gethostname(), "pid": os.getpid(), "start": start}
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back; no effect without it."""
        if self._descriptor is not None:
            with suppress(OSError):  # a disk that refuses; closing it is what counts
                os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def _claim(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunInUse(self.path, _holder(descriptor)) from None
        except OSError as error:
            if error.errno not in _NO_FLOCK:
                raise
            if _seems_alive(_holder(descriptor)):
                raise RunInUse(self.path, _holder(descriptor)) from None


def _holder(descriptor: int) -> dict[str, Any]:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) and {"host", "pid"} <= holder.keys() else {}


def _seems_alive(holder: dict[str, Any]) -> bool:
    """Tell whether the process may still run. Our own id is that of a dead one: containers number from 1."""
    if not holder or holder["host"] != socket.gethostname():
        return bool(holder)
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return bool(holder["pid"] != os.getpid())
