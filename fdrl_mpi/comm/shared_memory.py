"""Memory that the ranks of a node share."""

import mmap
import os
import tempfile
from collections.abc import Sequence

from fdrl_mpi.comm.leftovers import FOLDER, prefix
from fdrl_mpi.comm.requests import Communicator


class SharedMemory:
    """Zeroed memory that every rank of a node has mapped; no file is left of it, even after a ``kill -9``.

    It is a file in /dev/shm that is unlinked as soon as all have opened it; should its maker be killed before
    that, its name tells whose it was. No MPI window: those do not
    survive the death of a rank. Each rank reserves the pages it will write most, so that they lie close to
    its cores.

    Parameters
    ----------
    node : communicator
        All its ranks call together.
    num_bytes : int
        The same on every rank.
    reserved : sequence of (int, int)
        Start and length in bytes of what this rank reserves; together the ranks reserve everything.

    Raises
    ------
    OSError
        On all ranks of the node, if one of them cannot: no /dev/shm, or too small.
    """

    def __init__(self, node: Communicator, num_bytes: int, reserved: Sequence[tuple[int, int]]) -> None:
        path, trouble, file = "", "", -1
        is_leader = node.Get_rank() == 0
        try:
            if is_leader:
                file, path = tempfile.mkstemp(prefix=prefix(os.getpid()), dir=FOLDER)
                os.truncate(file, num_bytes)
        except OSError as error:
            trouble = str(error)
        path = node.bcast(path)
        try:
            if path and not is_leader:
                file = os.open(path, os.O_RDWR)
        except OSError as error:
            trouble = str(error)
        node.Barrier()
        if is_leader and path:
            os.unlink(path)  # before it has any pages
        try:
            if file >= 0:
                self._map(file, num_bytes, reserved)
        except OSError as error:
            trouble = trouble or str(error)
        if troubles := [text for text in node.allgather(trouble) if text]:
            raise OSError(f"{num_bytes} bytes of memory that the ranks of a node share: {troubles[0]}")

    def _map(self, file: int, num_bytes: int, reserved: Sequence[tuple[int, int]]) -> None:
        try:
            for start, length in reserved:
                os.posix_fallocate(file, start, length)
            self.memory = mmap.mmap(file, num_bytes)
        finally:
            os.close(file)
