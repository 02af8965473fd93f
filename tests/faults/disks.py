"""Disks that fill up, refuse or stall, in a test's own folder; where none can be made, it is skipped."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

CHUNK_BYTES = 4096


@contextmanager
def small_disk(folder: Path, megabytes: int = 4) -> Iterator[Path]:
    """Mount a disk of a few megabytes, in memory."""
    folder.mkdir(parents=True)
    with _mounted(folder, "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs"):
        yield folder


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder read-only, for root too; files that are open for writing stay so."""
    with _mounted(folder, "--bind", str(folder)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True, capture_output=True)
        yield


@contextmanager
def disk_that_stalls(folder: Path, image: Path) -> Iterator[Path]:
    """Mount a disk on which `stalled` works."""
    folder.mkdir(parents=True)
    with open(image, "wb") as file:
        file.truncate(16 * 2**20)
    _do("mkfs.ext4", "-q", "-F", str(image))
    with _mounted(folder, "-o", "loop", str(image)):
        yield folder


@contextmanager
def stalled(folder: Path) -> Iterator[None]:
    """Let everybody who writes to a disk wait until the end of the block."""
    _do("fsfreeze", "--freeze", str(folder))
    try:
        yield
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Take what is free; deleting the file that is returned gives it back."""
    filler = disk / "filler"
    with suppress(OSError), open(filler, "ab", buffering=0) as file:
        while True:
            file.write(bytes(CHUNK_BYTES))
    return filler


@contextmanager
def _mounted(folder: Path, *arguments: str) -> Iterator[None]:
    _do("mount", *arguments, str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _do(*command: str) -> None:
    """Run a command that needs the rights of root, or skip the test."""
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"{command[0]} is not possible here: {getattr(error, 'stderr', '') or error}")
