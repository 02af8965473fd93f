"""The names of everything in a run directory, and who may write there."""

import shutil
from itertools import count
from pathlib import Path

from fdrl_mpi.record.atomic_file import replacing
from fdrl_mpi.record.owner import Owner, TakenOver
from fdrl_mpi.record.run_lock import RunInUse, RunLock
from fdrl_mpi.record.verdict import Verdict

__all__ = ["RunDirectory", "RunInUse", "TakenOver", "Verdict"]


class RunDirectory:
    """``runs/NAME/``. Nothing is created before a method says so.

    Attributes
    ----------
    path, config, metrics, checkpoints, logs, verdict, report, exported : Path
        The directory itself, and the files and folders in it.
    owner : Owner
        Who may write there, where a run outlives its ranks; else everybody who has the lock.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.toml"
        self.metrics = self.path / "metrics.h5"
        self.checkpoints = self.path / "checkpoints"
        self.logs = self.path / "logs"
        self.verdict = self.path / "verdict.json"
        self.report = self.path / "report.html"
        self.exported = self.path / "exported"
        self._lock = RunLock(self.path / "run.lock")
        self.owner = Owner(self.path / "run.owner")

    def log(self, rank: int) -> Path:
        """Name the log file of a rank."""
        return self.logs / f"rank_{rank:03d}.log"

    def exists(self) -> bool:
        """Tell whether the directory is there, with or without a run in it."""
        return self.path.is_dir()

    def is_empty(self) -> bool:
        """Tell whether the directory is absent or holds nothing but the lock and its owner's name."""
        own = (self._lock.path, self.owner.path)
        return not self.exists() or all(entry in own for entry in self.path.iterdir())

    def lock(self) -> None:
        """Create the directory and keep other runs out of it until `unlock` or the end of this process.

        Only who writes needs it; readers do not.

        Raises
        ------
        RunInUse
            If a live run uses the directory.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()

    def unlock(self) -> None:
        """Let other runs in again."""
        self._lock.release()

    def sweep(self) -> None:
        """Remove unfinished files, which a writer that was given up may still have open."""
        for leftover in self.path.glob("*.tmp"):
            leftover.unlink(missing_ok=True)

    def set_aside(self) -> Path:
        """Rename the directory to the first free ``NAME.1``, ``NAME.2``, ... and give the new path.

        Afterwards nothing is at `path`, and nothing is locked.

        Raises
        ------
        RunInUse
            If a live run uses the directory.
        """
        self.lock()
        names = (self.path.with_name(f"{self.path.name}.{number}") for number in count(1))
        aside = next(name for name in names if not name.exists())
        self.path.rename(aside)
        self.unlock()
        return aside

    def copy_from(self, other: "RunDirectory") -> None:
        """Copy configuration, metrics and checkpoints of another run, which must not be running.

        The configuration comes last: without it, an interrupted copy is no run.

        Raises
        ------
        ValueError
            If there is no run in `other`, or something in this directory.
        """
        if not other.config.is_file():
            raise ValueError(f"{other.path} has no {other.config.name}: there is no run to go on from")
        if not self.is_empty():
            raise ValueError(f"{self.path} is not empty; a run is copied to a new directory")
        self.path.mkdir(parents=True, exist_ok=True)
        if other.checkpoints.is_dir():
            shutil.copytree(other.checkpoints, self.checkpoints, ignore=shutil.ignore_patterns("*.tmp"))
        for source, target in ((other.metrics, self.metrics), (other.config, self.config)):
            if source.exists():
                with replacing(target) as temporary:
                    shutil.copyfile(source, temporary)

    def write_verdict(self, verdict: Verdict) -> None:
        """Say how the run ended, in ``verdict.json``.

        Raises
        ------
        TakenOver
            If this process is not to write any more.
        OSError
            If the file system refuses.
        """
        verdict.write(self.verdict, self.owner.check)
