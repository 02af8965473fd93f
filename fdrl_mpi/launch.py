"""Start a run, here or in a batch job, and see it through: ``python -m fdrl_mpi.launch [OPTION] ARGUMENTS``.

mpirun gets the flags that the configuration needs. Its exit status proves nothing after a failure, so the
run's own verdict decides. mpirun gives its ranks 0.2 s to end after SIGINT or SIGTERM, too little to save:
the ranks get SIGUSR1 instead; a second signal ends the run at once. srun passes on what it gets.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from fdrl_mpi.batch_system import LAUNCHERS, launcher_variables, launcher_words, requeue, tasks_per_host
from fdrl_mpi.command_line import parse_train_arguments
from fdrl_mpi.config import Config
from fdrl_mpi.config_file import ConfigError, read
from fdrl_mpi.launch_flags import FLAGS
from fdrl_mpi.process import EXIT_STATUS, FAILED, REFUSED, RESUMABLE, RUN_FILE_VARIABLE, usable_cores
from fdrl_mpi.record.verdict import Verdict
from fdrl_mpi.starting import missing_mpi

USAGE = """\
usage: python -m fdrl_mpi.launch [OPTION ...] TRAINING ARGUMENTS

  --ranks N      ranks to start: the root, those with agents, spares (default: a batch job's tasks, else 17)
  --by LAUNCHER  mpirun (default), srun or flux
  --until-done   start again after a failure, for as long as the run gets further
  --requeue      back into SLURM's queue when the run was asked to stop and has saved its state
  --no-report    leave the report out
"""
DEFAULT_RANKS = 17
QUESTIONS = ("--help", "-h", "--print-config", "--version")
ORPHAN_S = 15.0
"""How long ranks may stay after the verdict: one that was stopped never ends by itself."""
LOOK_EVERY_S = 0.2
MOST_STARTS, NOT_STARTED = 3, 213
"""mpirun keeps its files under its process number. One that was killed leaves them, and a later one of that
number ends with this status, having removed them."""
FRUITLESS_STARTS = 3
"""Starts without a new checkpoint after which `--until-done` gives up."""


@dataclass(frozen=True)
class Options:
    """What is asked of the launcher; the rest is for training."""

    ranks: int = 0
    launcher: str = "mpirun"
    until_done: bool = False
    requeue: bool = False
    report: bool = True
    training: tuple[str, ...] = ()


def parse(words: Sequence[str]) -> Options:
    """Take the launcher's options from the front of the command line, and leave the others.

    Raises
    ------
    ValueError
        If ``--ranks`` has no number, or ``--by`` no launcher.
    """
    options, rest = Options(), list(words)
    while rest and rest[0] in ("--ranks", "--by", "--until-done", "--requeue", "--no-report"):
        match rest.pop(0):
            case "--ranks":
                if not rest or not rest[0].isdigit() or int(rest[0]) < 1:
                    raise ValueError("--ranks needs a number from 1 on, such as 17")
                options = replace(options, ranks=int(rest.pop(0)))
            case "--by":
                if not rest or rest[0] not in LAUNCHERS:
                    raise ValueError(f"--by needs one of {', '.join(LAUNCHERS)}")
                options = replace(options, launcher=rest.pop(0))
            case "--until-done":
                options = replace(options, until_done=True)
            case "--requeue":
                options = replace(options, requeue=True)
            case _:
                options = replace(options, report=False)
    return replace(options, training=tuple(rest))


def main(argv: Sequence[str] | None = None) -> int:
    """Run; return the run's exit status: 0 finished, 2 refused, 85 stopped with its state saved."""
    try:
        options = parse(sys.argv[1:] if argv is None else argv)
    except ValueError as error:
        print(f"{error}\n{USAGE}", file=sys.stderr)
        return REFUSED
    program = [sys.executable, "-m", "fdrl_mpi.train", *options.training]
    if any(word in QUESTIONS for word in options.training):
        print(USAGE if {"--help", "-h"} & set(options.training) else "", end="", flush=True)
        return subprocess.run(program, check=False).returncode
    if shutil.which(options.launcher) is None:
        print(missing_mpi(f"no {options.launcher} on PATH"), file=sys.stderr)
        return REFUSED
    job = Job([*command(options, os.environ), *program])
    status = job.run()
    fruitless, furthest = 0, -1
    while options.until_done and job.may_start_again(status) and fruitless < FRUITLESS_STARTS:
        fruitless = 0 if job.round > furthest else fruitless + 1
        furthest = max(furthest, job.round)
        where = f"after round {job.round}" if job.round >= 0 else "without a checkpoint"
        print(f"the run ended with status {status} {where}; starting again", flush=True)
        status = job.run()
    if options.requeue and status == RESUMABLE:
        refusal = requeue(os.environ)
        print(f"not requeued: {refusal}" if refusal else "requeued to go on", flush=True)
    if options.report and status == 0 and job.directory is not None:
        subprocess.run([sys.executable, "-m", "fdrl_mpi.report", str(job.directory)], check=True)
        print(f"result: {job.directory}\nreport: {job.directory / 'report.html'}")
    return status


def command(options: Options, environ: Mapping[str, str]) -> list[str]:
    """Write the beginning of the command line: a launcher and what the configuration needs of it."""
    tasks = tasks_per_host(environ)
    if options.launcher != "mpirun":
        return launcher_words(options.launcher, options.ranks, environ)
    ranks = options.ranks or sum(tasks) or DEFAULT_RANKS
    words = launcher_words(options.launcher, ranks, environ)
    try:
        arguments = parse_train_arguments(options.training)
        config = read(arguments.config_files, arguments.overrides)
    except ConfigError:
        config = Config()  # training says what is wrong with it
    if config.faults.mode == "survive":
        words += FLAGS.split()
    if min(ranks, max(tasks, default=ranks)) > usable_cores() // _threads_per_core():
        words += ["--oversubscribe", "--bind-to", "none"]
    return words


def _threads_per_core() -> int:
    """Count the threads of a core: mpirun counts cores."""
    try:
        return 1 + int(Path("/sys/devices/system/cpu/smt/active").read_text())
    except (OSError, ValueError):
        return 1


class Job:
    """A command line that may be run more than once.

    Attributes
    ----------
    directory : Path or None
        Of the run, once it has one.
    round : int
        The last one done when the job ended; without a verdict that of the newest checkpoint, -1 if none.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._words, self._is_dry = list(words), "--dry-run" in words
        self._num_ranks = int(words[words.index("-n") + 1]) if "-n" in words else 1
        self._signals = 0
        self._told_status: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.directory: Path | None = None
        self.round = -1

    def run(self) -> int:
        """Run to the end; return the status by the run's verdict, or mpirun's where there is none."""
        for _ in range(MOST_STARTS - 1):
            if (status := self._run_once()) != NOT_STARTED or self._signals or self.directory is not None:
                return status
            print("mpirun did not start; trying again", file=sys.stderr)
        return self._run_once()

    def _run_once(self) -> int:
        self.directory, self.round, self._told_status = None, -1, None
        with tempfile.NamedTemporaryFile(prefix="fdrl_mpi_run_") as run_file:
            environ = os.environ | launcher_variables(os.environ) | {RUN_FILE_VARIABLE: run_file.name}
            self._process = subprocess.Popen(
                self._words, env=environ, stdin=subprocess.DEVNULL, process_group=0
            )
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
                signal.signal(number, self._pass_on)
            status = self._wait(Path(run_file.name))
            verdict = self._verdict(Path(run_file.name))
        if verdict is None:
            self.round = self._newest_checkpoint()
            is_due = self.directory is not None or ("--with-ft" in self._words and not self._is_dry)
            return status or (FAILED if is_due else 0)
        self.round = verdict.round
        return EXIT_STATUS[verdict.outcome]

    def may_start_again(self, status: int) -> bool:
        """Whether the run has begun, has not finished, and nobody has asked it to stop."""
        return status not in (0, REFUSED) and not self._signals and self.directory is not None

    def _wait(self, run_file: Path) -> int:
        process, decided_s = self._process, 0.0
        assert process is not None
        most = 0
        while process.poll() is None:
            time.sleep(LOOK_EVERY_S)
            verdict, states = self._verdict(run_file), _states(_ranks(process.pid))
            most = max(most, len(states))
            are_all_here = most >= self._num_ranks  # else some may go on, on other hosts unseen
            if verdict is None:  # mpirun ends all ranks with the first, unless it was told not to
                has_begun = self.directory is not None
                is_over = are_all_here and not states if has_begun else len(states) < most
            elif verdict.outcome == "minority":
                is_over = are_all_here and not set(states) - set("Tt")
            else:
                is_over = True
            decided_s = (decided_s or time.monotonic()) if is_over else 0.0
            if decided_s and time.monotonic() - decided_s > ORPHAN_S:
                if verdict is None and states:
                    print("a rank has ended before the run had begun; ending the others", file=sys.stderr)
                _end(process)
                if not states and self._told_status is not None:  # all have ended: mpirun itself stood still
                    return self._told_status
        return process.returncode if process.returncode >= 0 else 128 - process.returncode

    def _verdict(self, run_file: Path) -> Verdict | None:
        """Read the verdict of this run; None before there is one."""
        facts = dict(line.partition(" ")[::2] for line in run_file.read_text(encoding="utf-8").splitlines())
        if "run" in facts:
            self.directory = Path(facts["run"])
        self._told_status = int(facts["status"]) if "status" in facts else None
        if self.directory is None or not (self.directory / "verdict.json").exists():
            return None
        try:
            return Verdict.read(self.directory / "verdict.json")
        except ValueError:
            return None

    def _newest_checkpoint(self) -> int:
        if self.directory is None:
            return -1
        from fdrl_mpi.record.checkpoint import CheckpointStore  # h5py, which a run that goes well needs not

        return max(CheckpointStore(self.directory, keep=1).rounds(), default=-1)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGUSR1 if self._signals == 1 else signal.SIGTERM)


def _end(mpirun: subprocess.Popen[bytes]) -> None:
    """End what is left of a job, mpirun and what it has started, and remove their files."""
    ranks = _children(mpirun.pid)
    segments = {path for pid in ranks for path in _segments(pid)}
    for pid in [*ranks, mpirun.pid]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for path in segments:
        path.unlink(missing_ok=True)
    mpirun.wait()
    shutil.rmtree(f"{tempfile.gettempdir()}/ompi.{mpirun.pid}", ignore_errors=True)


def _children(pid: int) -> list[int]:
    """List the processes that a process has started."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _ranks(mpirun: int) -> list[int]:
    """List the ranks of a job on this host; what starts them on others is not one, and may end at once."""
    ranks = []
    for pid in _children(mpirun):
        with suppress(OSError):
            program = Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0]
            ranks += [pid] if program == sys.executable.encode() else []
    return ranks


def _states(pids: Sequence[int]) -> list[str]:
    """List the letters of the states of processes that have not ended."""
    states = []
    for pid in pids:
        with suppress(OSError):
            states.append(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0])
    return [state for state in states if state not in "ZX"]


def _segments(pid: int) -> Iterator[Path]:
    """List MPI's files in shared memory that a process uses."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            name = line.partition("/dev/shm/sm_segment.")[2]
            if name:
                yield Path(f"/dev/shm/sm_segment.{name.removesuffix(' (deleted)')}")


if __name__ == "__main__":
    sys.exit(main())
