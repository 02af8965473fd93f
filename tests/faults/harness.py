"""Runs that things are done to, and what is left of them.

A run writes to files, never to pipes that an orphan could hold open; it has a time limit; what is left of it
afterwards is ended by its process id.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fdrl_mpi.config_file import read
from fdrl_mpi.federation.injection import VARIABLE
from fdrl_mpi.launch_flags import FLAGS
from fdrl_mpi.record.checkpoint import CheckpointStore
from fdrl_mpi.record.metrics_file import read_metrics

sys.path.append(str(Path(__file__).parents[1] / "federation"))  # where this is no test, but a program's
from oracle import oracle

NUM_RANKS, NUM_SPARES = 7, 1
ROUNDS = 8
SMALL = {
    "rounds": str(ROUNDS),
    "environment.num_envs": "2",
    "learner.budget": "64",
    "learner.num_steps": "16",
    "learner.num_minibatches": "2",
    "learner.network.hidden": "[8, 8]",
    "evaluation.every": "2",
    "evaluation.episodes": "1",
    "checkpoint.every": "4",
    "faults.mode": "survive",
    "faults.spares": str(NUM_SPARES),
    "comm.fan_out": "2",
    "comm.secure.dropouts": "0",
}
TOLERANCE = 1e-5
"""Of a model against the oracle; secure sums are fixed point."""


@dataclass(frozen=True)
class Ending:
    """What a run came to.

    Attributes
    ----------
    verdict : dict
        Empty if it left none.
    error : float
        Largest difference between the last model and the oracle's over those that took part.
    is_ended : bool
        Whether the job ended by itself within its limit.
    rounds : list of int
        That are recorded.
    left_in_memory : list of str
        Files of the run in /dev/shm.
    """

    verdict: dict
    error: float
    is_ended: bool
    rounds: list[int]
    left_in_memory: list[str]
    output: str

    @property
    def is_right(self) -> bool:
        """Whether the run finished with the right model and an unbroken record."""
        rounds = self.verdict.get("rounds", 0)
        return (
            self.is_ended
            and self.verdict.get("outcome") == "finished"
            and self.error <= TOLERANCE
            and self.rounds == list(range(1, rounds + 1))
            and not self.left_in_memory
        )

    @property
    def num_lost_rounds(self) -> int:
        """Rounds that ended without a new model; one that was done again is not lost."""
        parts = self.verdict.get("took_part", ())
        return sum(part["last"] - part["first"] + 1 for part in parts if not part["agents"])

    @property
    def recovery_s(self) -> list[float]:
        """Seconds until the run went on, for each failure."""
        return [failure["recovery_s"] for failure in self.verdict.get("failures", ())]


def play(
    folder: Path,
    faults: str,
    limit_s: float = 60.0,
    num_ranks: int = NUM_RANKS,
    late: Mapping[int, Collection[int]] | None = None,
    **changes: str,
) -> Ending:
    """Make a run with faults, and compare it with the oracle; `late` are agents by round, see `error_of`."""
    settings = SMALL | {key.replace("__", "."): value for key, value in changes.items()}
    folder.mkdir(parents=True, exist_ok=True)
    before = _shared_files()
    is_ended = wait(launch(folder, faults, num_ranks, settings), limit_s)
    run = folder / "runs/cartpole"
    path = run / "verdict.json"
    verdict = json.loads(path.read_text()) if path.exists() else {}
    num_agents = num_ranks - 1 - int(settings["faults.spares"])
    error = float("inf")
    rounds: list[int] = []
    if verdict.get("outcome") == "finished":
        num_agents *= int(settings.get("agents_per_rank", "1"))
        error = error_of(run, verdict, num_agents, late or {})
        rounds = read_metrics(run / "metrics.h5").rounds.tolist()
    output = (folder / "output.txt").read_text(errors="replace")
    return Ending(verdict, error, is_ended, rounds, _left_in_memory(before), output)


def launch(folder: Path, faults: str, num_ranks: int, settings: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a job whose output goes to ``output.txt``.

    What mpirun keeps under its process number lies in the folder: one that was killed leaves it, and another
    of that number would not start beside it.
    """
    (folder / "mpirun").mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "TMPDIR": str(folder / "mpirun"),
        VARIABLE: faults,
    }
    options = [f"--{key}={value}" for key, value in settings.items()]
    flags = FLAGS.split() if settings["faults.mode"] == "survive" else []
    command = ["mpirun", *flags, "-n", str(num_ranks), "--oversubscribe"]
    with open(folder / "output.txt", "wb") as output:
        return subprocess.Popen(
            [*command, sys.executable, "-m", "fdrl_mpi.train", *options],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait(process: subprocess.Popen[bytes], limit_s: float) -> bool:
    """Wait for a job; end what is left of it after `limit_s`. Return whether it ended by itself."""
    deadline, ranks = time.monotonic() + limit_s, []
    while process.poll() is None and time.monotonic() < deadline:
        ranks = children(process.pid) or ranks
        time.sleep(0.05)
    is_ended = process.poll() is not None
    for pid in [*ranks, process.pid]:
        if is_alive(pid) and (pid != process.pid or not is_ended):
            is_ended = False
            os.kill(pid, signal.SIGKILL)
    process.wait(10)
    return is_ended


def children(pid: int) -> list[int]:
    """List the processes that a process has started."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def ranks_of(folder: Path) -> list[int]:
    """List the processes that train in a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        try:
            words = (path.parent / "cmdline").read_bytes().split(b"\0")
            if words[0] == sys.executable.encode() and path.resolve() == folder.resolve():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no corpse."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def error_of(run: Path, verdict: dict, num_agents: int, late: Mapping[int, Collection[int]]) -> float:
    """Make the run again in this process, with those that took part; return how far the models are apart.

    Parameters
    ----------
    late : mapping
        By round, agents that have trained for it, but whose updates came too late.
    """
    config = read([run / "config.toml"], [])
    took_part = {
        round: frozenset(entry["agents"])
        for entry in verdict["took_part"]
        for round in range(entry["first"], entry["last"] + 1)
    }

    def in_vain(round: int) -> Collection[int]:
        """Who was late; in a round that was given up, all: they had trained for it."""
        return late.get(round, ()) if took_part[round] else took_part.get(round + 1, ())

    replaced: dict[int, dict[int, int]] = {}
    for failure in verdict["failures"]:
        agents = {int(agent): round for agent, round in failure["replaced_agents"].items()}
        replaced.setdefault(failure["round"], {}).update(agents)
    params = oracle(config, num_agents, verdict["round"], took_part.__getitem__, in_vain, replaced=replaced)
    ours = CheckpointStore(run, 9).load(verdict["round"], "global.h5")["params"]
    return float(np.abs(ours - params).max())


def _shared_files() -> set[str]:
    """List the files of runs, ours and those of MPI, in shared memory; not those of processes alone.

    MPI's end in the number of the job and that of the rank; a process without a launcher is job 0000.
    """
    names = {path.name for path in Path("/dev/shm").iterdir()}
    ours = {name for name in names if name.startswith("fdrl_mpi_")}
    return ours | {name for name in names if re.fullmatch(r"sm_segment\..*(?<!0000)\.\d+", name)}


def _left_in_memory(before: set[str]) -> list[str]:
    """List what is there that was not, and is not in use: other jobs may run at the same time."""
    left = _shared_files() - before - _mapped()
    if left:
        time.sleep(2.0)
    return sorted((left & _shared_files()) - _mapped())


def _mapped() -> set[str]:
    """List the files in shared memory that a process has mapped."""
    names = set()
    for path in Path("/proc").glob("[0-9]*/maps"):
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        names |= {line.partition("/dev/shm/")[2] for line in lines if "/dev/shm/" in line}
    return names
