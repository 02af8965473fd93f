"""Who may write to a run directory, where a process that was given up may wake up later on another host."""

import json
import os
from pathlib import Path

from fdrl_mpi.record.atomic_file import write_json


class TakenOver(Exception):  # noqa: N818 (a way for a run to end on this rank)
    """Others have taken over the run directory: this process must not write to it any more."""


class Owner:
    """A small file that says which view of which job owns the directory it lies in.

    A lock cannot keep out a process that has held it for long, was stopped or cut off, and goes on after the
    others have given it up. It can find out by itself: who takes over writes its number before anything else,
    and every writer reads it right before each of its files takes its name.

    Parameters
    ----------
    path : path

    Notes
    -----
    What comes between the reading and the renaming of one file cannot be excluded without help of the file
    system. NFS shows the new contents of a file once its directory has been opened, so that is done first.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._job, self._view, self._is_root = "", 0, False
        self._was_ours = False

    def stand_for(self, job: str, view: int, is_root: bool) -> None:
        """Be checked from here on.

        Parameters
        ----------
        job : str
            The same on all ranks of a job, and on those of no other one.
        view : int
            Number of the view this process works in.
        is_root : bool
            Whether it is the one that claims the directory for it.
        """
        self._job, self._view, self._is_root = job, view, is_root

    def claim(self) -> None:
        """Make the directory that of this job and view, whosever it was."""
        write_json(self.path, {"job": self._job, "view": self._view})

    def check(self) -> None:
        """Return if this process may write; no effect before `stand_for`.

        A root claims what belonged to an older view.

        Raises
        ------
        TakenOver
            If a later view of the job owns the directory; or if another job does, or nobody, though this one
            did, which to a root that stands for it is certain.
        OSError
            If that cannot be read, or not be claimed.
        """
        if not self._job:
            return
        job, view = self._read()
        if job == self._job and view > self._view:
            raise TakenOver(f"{self.path.parent} belongs to view {view} of the run, not to {self._view}")
        if job != self._job and (self._is_root or self._was_ours):
            whose = f"is that of another job now: {job}" if job else "is gone, or nobody's any more"
            raise TakenOver(f"{self.path.parent} {whose}")
        self._was_ours = job == self._job
        if self._is_root and view < self._view:
            self.claim()

    def _read(self) -> tuple[str, int]:
        """Read job and view; an empty name where nobody has written one."""
        directory = os.open(self.path.parent, os.O_RDONLY)
        try:
            descriptor = os.open(self.path.name, os.O_RDONLY, dir_fd=directory)
        except FileNotFoundError:
            return "", 0
        finally:
            os.close(directory)
        with open(descriptor, encoding="utf-8") as file:
            try:
                content = json.load(file)
                return str(content["job"]), int(content["view"])
            except (ValueError, KeyError, TypeError):
                return "", 0
