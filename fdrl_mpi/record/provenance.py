"""Where a result comes from: program, versions, machine, command."""

import os
import platform
import shlex
import socket
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import fdrl_mpi

_PACKAGES = ("numpy", "h5py", "gymnasium", "mpi4py", "msgspec", "torch")
_ENVIRONMENT = ("OMP_", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMPI_MCA_", "SLURM_JOB_ID")


def collect() -> dict[str, str | int | float]:
    """Gather facts about this process, for the attributes of the record.

    Returns
    -------
    dict
        Versions (of packages that are installed, without importing them), git commit of the source tree
        ("unknown" outside one), start time, command line, machine, and the environment variables that decide
        about speed.

    Notes
    -----
    A few milliseconds, and no process is started: not every MPI survives a fork.
    """
    return {
        "fdrl_mpi_version": fdrl_mpi.__version__,
        "python_version": platform.python_version(),
        **_package_versions(),
        "git_commit": git_commit(Path(fdrl_mpi.__file__).parents[1]),
        "start_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.orig_argv),
        "host": socket.gethostname(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu_model": _cpu_model(),
        "num_cores": os.cpu_count() or 0,
        **{f"env_{name}": value for name, value in os.environ.items() if name.startswith(_ENVIRONMENT)},
    }


def git_commit(source_tree: Path) -> str:
    """Give the hash of the commit that a git work tree is at, or "unknown"."""
    try:
        git = source_tree / ".git"
        if git.is_file():  # a linked work tree: "gitdir: PATH"
            git = source_tree / git.read_text().removeprefix("gitdir:").strip()
        head = (git / "HEAD").read_text().strip()
        return _resolve(git, head.removeprefix("ref:").strip()) if head.startswith("ref:") else head
    except (OSError, ValueError):
        return "unknown"


def _resolve(git: Path, reference: str) -> str:
    pointer = git / "commondir"
    common = git / pointer.read_text().strip() if pointer.exists() else git
    if (common / reference).exists():
        return (common / reference).read_text().strip()
    packed = (line.split() for line in (common / "packed-refs").read_text().splitlines())
    return next((fields[0] for fields in packed if fields[1:] == [reference]), "unknown")


def _package_versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[f"{package}_version"] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
