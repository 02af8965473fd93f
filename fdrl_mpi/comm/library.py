"""Which MPI library runs this process, and what it can do."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

THREAD_LEVELS = ("single", "funneled", "serialized", "multiple")


class LibraryFacts(TypedDict):
    """What `describe` finds."""

    vendor: str
    version: str
    standard: str
    mpi4py: str
    path: str
    thread_level: str
    fault_calls: bool
    rank: int
    size: int


def name_library() -> str:
    """Name the maker of the MPI library; MPI is loaded and not yet started.

    Raises
    ------
    ImportError, RuntimeError
        If mpi4py is missing, or finds no MPI library.
    """
    import mpi4py

    mpi4py.rc.initialize, mpi4py.rc.finalize = False, True
    from mpi4py import MPI

    return MPI.get_vendor()[0]


def describe() -> LibraryFacts:
    """Start MPI and tell what it is.

    Collective over the world. `path` is the loaded library file, empty where the system does not say;
    `fault_calls` tells whether revoke, shrink and agree (ULFM) exist, not whether the launcher enabled them.

    Raises
    ------
    ImportError, RuntimeError
        If mpi4py is missing, or finds no MPI library. An MPI that fails to start ends the process instead.
    """
    import mpi4py
    from mpi4py import MPI

    if not MPI.Is_initialized():
        MPI.Init_thread()
    vendor, version = MPI.get_vendor()
    return LibraryFacts(
        vendor=vendor,
        version=".".join(map(str, version)),
        standard=".".join(map(str, MPI.Get_version())),
        mpi4py=mpi4py.__version__,
        path=_loaded_library(),
        thread_level=THREAD_LEVELS[_thread_level()],
        fault_calls=_has_fault_calls(MPI.COMM_WORLD),
        rank=MPI.COMM_WORLD.rank,
        size=MPI.COMM_WORLD.size,
    )


def gather_at_root(facts: Any) -> list[Any]:
    """Collect one picklable object of every rank at rank 0, in rank order; empty elsewhere. Collective."""
    from mpi4py import MPI

    return MPI.COMM_WORLD.gather(facts) or []


def _thread_level() -> int:
    from mpi4py import MPI

    levels = (MPI.THREAD_SINGLE, MPI.THREAD_FUNNELED, MPI.THREAD_SERIALIZED, MPI.THREAD_MULTIPLE)
    return levels.index(MPI.Query_thread())


def _has_fault_calls(world: "Intracomm") -> bool:
    from mpi4py import MPI

    copy = world.Dup()  # a private communicator: nothing here can disturb the world
    try:
        copy.Is_revoked()
    except (NotImplementedError, MPI.Exception):
        return False
    finally:
        copy.Free()
    return True


def _loaded_library() -> str:
    """Find the MPI library among the files mapped into this process (Linux; elsewhere empty)."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return ""
    found = re.search(r"(/\S*/libmpi(?:ch)?\.so\S*)", maps.read_text())
    return found.group(1) if found else ""
