"""What there is to train with: installed packages, the MPI library, and the host of every rank."""

import importlib.metadata
import re
import shutil
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fdrl_mpi.comm.library import LibraryFacts, describe, gather_at_root, name_library
from fdrl_mpi.process import usable_cores

DEFAULT_RANKS = 17


@dataclass(frozen=True)
class HostFacts:
    """What one rank sees of its host; sizes in bytes."""

    name: str
    cores: int
    shared_memory: int
    free_disk: int
    directory_error: str


@dataclass(frozen=True)
class Job:
    """The MPI library (None with the reason, if there is none) and the host of every rank."""

    mpi: LibraryFacts | None
    mpi_error: str
    hosts: list[HostFacts]

    def ranks_per_host(self) -> dict[str, int]:
        """Count the ranks of each host; a process alone plans for the usual number on its own."""
        if len(self.hosts) == 1:
            return {self.hosts[0].name: DEFAULT_RANKS}
        return dict(Counter(host.name for host in self.hosts))


def inspect_job(directory: Path) -> Job:
    """Start MPI and collect the hosts at rank 0; without MPI, look at this host alone. Collective."""
    host = inspect_host(directory)
    try:
        mpi = describe()
    except (ImportError, RuntimeError) as error:
        return Job(None, str(error).splitlines()[0], [host])
    return Job(mpi, "", gather_at_root(host))


def mpi_vendor() -> str:
    """Name the maker of the MPI library without starting it; empty if there is none."""
    try:
        return name_library()
    except (ImportError, RuntimeError):
        return ""


def inspect_host(directory: Path) -> HostFacts:
    """Measure this host, and write and remove a file where the directory is, or would be made."""
    existing = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
    error = ""
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as problem:
        error = str(problem)
    return HostFacts(
        name=socket.gethostname(),
        cores=usable_cores(),
        shared_memory=shutil.disk_usage("/dev/shm").free,
        free_disk=shutil.disk_usage(existing).free,
        directory_error=error,
    )


def threads_per_core() -> int:
    """Read whether each core counts twice, as two hardware threads (Linux)."""
    active = Path("/sys/devices/system/cpu/smt/active")
    return 2 if active.exists() and active.read_text().strip() == "1" else 1


def requirements(distribution: str, extra: str = "") -> Iterator[tuple[str, str]]:
    """Read name and lowest version of what a distribution, or one extra of it, requires.

    Requirements for other Python versions are left out, and those with any other condition.
    """
    for line in importlib.metadata.requires(distribution) or []:
        requirement, _, marker = line.partition(";")
        if not applies(marker, extra):
            continue
        found = re.match(r"([\w.-]+)(?:\[([\w-]+)\])?(?:.*[>=]=([\d.]+))?", requirement.strip())
        assert found, line
        name, nested, lowest = found.groups()
        yield name, lowest or "0"
        if nested:
            yield from requirements(name, nested)


def applies(marker: str, extra: str) -> bool:
    """Tell whether a requirement's condition asks for this extra (none: "") on this Python."""
    asked = ""
    for clause in filter(None, marker.replace("'", '"').strip().split(" and ")):
        found = re.fullmatch(r'(extra|python_version) (==|<|>=) "([\w.-]+)"', clause)
        if not found:
            return False
        name, comparison, value = found.groups()
        if name == "extra":
            asked = value
        elif (version_key(value) <= sys.version_info[:2]) == (comparison == "<"):
            return False
    return asked == extra


def package_state(name: str, lowest: str) -> tuple[str, bool]:
    """Name a package with its version, and tell whether it is there and new enough."""
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return f"{name} missing", False
    if version_key(version) < version_key(lowest):
        return f"{name} {version} (older than {lowest})", False
    return f"{name} {version}", True


def version_key(version: str) -> tuple[int, ...]:
    """Turn the leading numbers of a version into something to compare: 2.13.0+cpu is (2, 13, 0)."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, found.group().split("."))) if found else ()
