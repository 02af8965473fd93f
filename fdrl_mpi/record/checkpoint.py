"""The checkpoints of a run: one folder per round, one file per process, a manifest that makes it count."""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fdrl_mpi.arrays import State
from fdrl_mpi.record.atomic_file import anybody, replacing, sync, write_json
from fdrl_mpi.record.run_directory import RunDirectory
from fdrl_mpi.record.state_file import DamagedCheckpoint, file_digest, read_state, write_state

__all__ = ["CheckpointStore", "DamagedCheckpoint", "Manifest", "read_state", "write_state"]

_FORMAT = 1
_MANIFEST = "manifest.json"
SYNCS_AT_ONCE = 8


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint consists of.

    Attributes
    ----------
    format : int
        Version of the layout.
    round : int
        The last round that the states contain.
    digests, sizes_bytes : dict
        SHA-256 and size of each file, by name.
    facts : dict
        What the program wants to know before it reads the states.
    """

    format: int
    round: int
    digests: dict[str, str]
    sizes_bytes: dict[str, int]
    facts: dict[str, Any]


class CheckpointStore:
    """The folder ``checkpoints/`` of a run.

    The root calls `prepare`; every process writes its own files with `write`, and sends their digests to the
    root; the root calls `commit`. Before that, nothing counts: a kill at any moment leaves the older
    checkpoints as they were.

    Parameters
    ----------
    run_dir : path
        The run directory; nothing is created before `prepare`.
    keep : int
        How many checkpoints to keep, at least 1.
    check : callable
        Called before anything takes its name: see `replacing`.
    """

    def __init__(self, run_dir: str | Path, keep: int, check: Callable[[], None] = anybody) -> None:
        if keep < 1:
            raise ValueError(f"keep is {keep}, must be at least 1")
        self.folder = RunDirectory(run_dir).checkpoints
        self.keep, self._check = keep, check

    def staging(self, round: int) -> Path:
        """Name the folder where the files of a round are written before they count."""
        return self._folder(round, ".tmp")

    @staticmethod
    def file_for(agent: int) -> str:
        """Name the file of an agent; 0 is the root."""
        return "global.h5" if agent == 0 else f"agent_{agent:04d}.h5"

    def prepare(self, round: int) -> Path:
        """Make the empty folder `staging(round)`; clear away what interrupted ones left (root only)."""
        self._check()
        self.abandon()
        self.staging(round).mkdir(parents=True)
        sync(self.folder.parent)
        return self.staging(round)

    def abandon(self) -> None:
        """Clear away checkpoints that do not count yet (root only)."""
        for leftover in self.folder.glob("round_*.tmp"):
            shutil.rmtree(leftover)

    def write(self, round: int, states: Mapping[int, State]) -> dict[str, str]:
        """Write a file for each agent to `staging(round)`, and wait until all are on the disk.

        To wait for each before the next is written takes a third as long again.

        Parameters
        ----------
        states : mapping
            By agent; 0 is the root.

        Returns
        -------
        dict
            Digests by file name.

        Raises
        ------
        TypeError, OSError
            See `write_state`.
        """
        staging, digests = self.staging(round), {}
        for agent, state in states.items():
            file = self.file_for(agent)
            digests[file] = write_state(staging / file, state, self._check, durable=False)
        with ThreadPoolExecutor(SYNCS_AT_ONCE) as pool:
            list(pool.map(sync, [staging / file for file in digests]))
        return digests

    def commit(self, round: int, digests: Mapping[str, str], facts: Mapping[str, Any]) -> None:
        """Make the files in `staging(round)` the checkpoint of the round; drop the oldest ones (root only).

        Parameters
        ----------
        round : int
            The last round that the states contain. A checkpoint of the same round is replaced.
        digests : mapping
            What `write_state` returned, by file name: all the files of the checkpoint.
        facts : mapping of JSON values
            Kept in the manifest.

        Raises
        ------
        OSError
            If a file is not there, or the file system refuses. The older checkpoints stay.
        """
        staging = self.staging(round)
        sizes_bytes = {file: (staging / file).stat().st_size for file in digests}
        write_json(
            staging / _MANIFEST, asdict(Manifest(_FORMAT, round, dict(digests), sizes_bytes, dict(facts)))
        )

        final, old = self._folder(round), self._folder(round, ".old")
        self._check()
        if final.exists():
            self._remove(old)
            final.rename(old)
        staging.rename(final)
        sync(self.folder)
        self._remove(old)
        for outdated in [other for other in self.rounds() if other <= round][: -self.keep]:
            self._discard(outdated)

    def carry(self, round: int, file: str) -> str:
        """Take a file of the newest checkpoint that has it into `staging(round)` (root only).

        For the private state of agents that are not here to write it. Return its digest; empty if no
        checkpoint has one that is whole.
        """
        target = self.staging(round) / file
        for other in reversed([other for other in self.rounds() if other <= round]):
            source, digest = self._existing(other) / file, self.manifest(other).digests.get(file)
            if digest and source.exists() and file_digest(source) == digest:
                with replacing(target) as temporary:
                    shutil.copyfile(source, temporary)
                return digest
        return ""

    def rounds(self) -> list[int]:
        """List the rounds with a complete checkpoint, in ascending order."""
        return [round for round in self.committed() if self._is_complete(round)]

    def committed(self) -> list[int]:
        """List the rounds whose checkpoint was complete once; it may be damaged now."""
        found = (re.fullmatch(r"round_(\d+)(\.old)?", path.name) for path in self.folder.glob("round_*"))
        return sorted({int(match[1]) for match in found if match})

    def manifest(self, round: int) -> Manifest:
        """Read the manifest of a checkpoint.

        Raises
        ------
        DamagedCheckpoint
            If there is none, or it makes no sense.
        """
        path = self._existing(round) / _MANIFEST
        try:
            manifest = Manifest(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise DamagedCheckpoint(f"{path}: no usable manifest: {error}") from error
        if (manifest.format, manifest.round) != (_FORMAT, round):
            raise DamagedCheckpoint(
                f"{path}: has format {manifest.format} and round {manifest.round}, not {_FORMAT} and {round}"
            )
        return manifest

    def load(self, round: int, file: str) -> State:
        """Read one file of a checkpoint.

        Raises
        ------
        DamagedCheckpoint
            If it is missing, unreadable, or not what was committed.
        """
        digests = self.manifest(round).digests
        if file not in digests:
            raise DamagedCheckpoint(f"{self._existing(round)}: has no {file}, but {', '.join(digests)}")
        return read_state(self._existing(round) / file, digests[file])

    def discard_after(self, round: int) -> None:
        """Remove the checkpoints of later rounds, after the run went back to `round` (root only)."""
        for other in self.committed():
            if other > round:
                self._discard(other)

    def _folder(self, round: int, suffix: str = "") -> Path:
        return self.folder / f"round_{round:06d}{suffix}"

    def _existing(self, round: int) -> Path:
        """Name the folder of a checkpoint: ``.old`` if the process died while it was being replaced."""
        final, old = self._folder(round), self._folder(round, ".old")
        return old if old.exists() and not final.exists() else final

    def _is_complete(self, round: int) -> bool:
        try:
            return self.manifest(round).round == round
        except DamagedCheckpoint:
            return False

    def _discard(self, round: int) -> None:
        self._remove(self._folder(round, ".old"))
        self._remove(self._folder(round))

    def _remove(self, folder: Path) -> None:
        """Remove a folder that may not exist; half removed, it does not count any more."""
        if folder.exists():
            doomed = folder.with_name(folder.name + ".tmp")
            shutil.rmtree(doomed, ignore_errors=True)
            folder.rename(doomed)
            shutil.rmtree(doomed)
