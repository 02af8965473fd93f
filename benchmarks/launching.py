"""Runs under mpirun: started as a user would, watched from outside."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from fdrl_mpi.batch_system import tasks_per_host
from fdrl_mpi.launch import Options, command
from fdrl_mpi.process import THREAD_VARIABLES, usable_cores
from fdrl_mpi.record.metrics_file import Metrics, read_metrics

REPOSITORY = Path(__file__).parents[1]
LIMIT_S = 900.0
RANK_MB = 64
"""Memory of a rank with an agent, rounded up."""
_DROPPED = (*THREAD_VARIABLES, "PYTHONDONTWRITEBYTECODE")
_DROPPED_PREFIXES = ("OMPI_MCA_", "PRTE_MCA_", "PMIX_MCA_")


def mpirun(ranks: int, *words: str) -> list[str]:
    """Make the command line that runs this Python on `ranks` ranks, in a batch job on its hosts."""
    return [*command(Options(ranks=ranks), os.environ), sys.executable, *words]


def most_ranks() -> tuple[int, str]:
    """Tell how many ranks can be started here, and why no more."""
    if tasks := tasks_per_host(os.environ):
        return sum(tasks), f"this batch job has {sum(tasks)} tasks"
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if "MemAvailable" in line)
    free_mb = int(line.split()[1]) // 1024
    return free_mb // RANK_MB, f"{free_mb} MB of memory are free here, and a rank takes up to {RANK_MB} MB"


def num_cores() -> int:
    """Count the cores that ranks can have: of this host, or of all that a batch job has, taken as equal."""
    return usable_cores() * max(len(tasks_per_host(os.environ)), 1)


def train(ranks: int, directory: Path, *words: str) -> list[str]:
    """Make the command line of a run in `directory`; `words` are keys and options."""
    place = ("--run.dir", str(directory), "--run.name", "run", "--run.resume", "never")
    return mpirun(ranks, "-m", "fdrl_mpi.train", *place, "--log.progress", "none", *words)


def recorded(directory: Path) -> Metrics:
    """Read what the last `train` in `directory` recorded."""
    return read_metrics(directory / "run" / "metrics.h5")


def untuned() -> dict[str, str]:
    """Copy the environment without the variables that tune threads, MPI or bytecode."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in _DROPPED and not name.startswith(_DROPPED_PREFIXES)
    }
    path = [str(REPOSITORY), *filter(None, [kept.get("PYTHONPATH")])]
    return kept | {"PYTHONPATH": os.pathsep.join(path)}


def run(words: Sequence[str]) -> str:
    """Run to the end and return the output.

    Raises
    ------
    RuntimeError
        With the output, if the command fails.
    """
    done = subprocess.run(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=untuned(),
        timeout=LIMIT_S,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def peak_memory_mb(words: Sequence[str], pause_s: float = 0.3) -> float:
    """Run to the end; return the largest sum of the proportional set sizes of all ranks, in MB.

    Shared pages count once in the sum; the launcher does not count. Sampling disturbs the run: do not time
    it.
    """
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=untuned())
    peak_kb = 0
    while process.poll() is None:
        peak_kb = max(peak_kb, sum(map(_pss_kb, _descendants(process.pid))))
        time.sleep(pause_s)
    return peak_kb / 1024.0


def _descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(word) for word in task.read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *_descendants(child)]
    return found


def _pss_kb(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)
