"""Files that appear complete or not at all, whatever kills the process or the machine."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path


def anybody() -> None:
    """Let every writer write: see `replacing`."""


@contextmanager
def replacing(path: str | Path, durable: bool = True, check: Callable[[], None] = anybody) -> Iterator[Path]:
    """Give a temporary name to write to; the file takes the name `path` when the block ends without an error.

    Whoever has the old file open keeps reading the old one. There must be one writer per `path`.

    Parameters
    ----------
    path : path
        The file to create or replace; its directory must exist.
    durable : bool
        Wait until file and name are on the disk, so that a power cut cannot undo them. Without it, only the
        death of the process is harmless.
    check : callable
        Called when the new file is whole, right before it takes its name; raises where this process is not
        to write any more.
    """
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    try:
        yield temporary
        if durable:
            sync(temporary)
        check()
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):  # what went wrong first is what counts
            temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync(path.parent)


def write_json_first(path: str | Path, content: Mapping[str, object]) -> bool:
    """Write a JSON object, durably and as a whole, where no file is yet; of several writers one succeeds.

    Returns
    -------
    bool
        Whether this one has. On file systems without hard links all do, and the last one's file stays.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.uname().nodename}.{os.getpid()}.tmp")
    try:
        temporary.write_text(_text_of(content), encoding="utf-8")
        sync(temporary)
        try:
            os.link(temporary, path)
        except FileExistsError:
            if temporary.stat().st_nlink == 1:  # else it was made: NFS may ask for a link twice
                return False
        except OSError:
            os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    sync(path.parent)
    return True


def sync(path: str | Path) -> None:
    """Wait until a file's contents, or a directory's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: str | Path, content: Mapping[str, object], check: Callable[[], None] = anybody) -> None:
    """Write a JSON object atomically and durably; NaN and infinity, which JSON lacks, raise ValueError."""
    text = _text_of(content)
    with replacing(path, check=check) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _text_of(content: Mapping[str, object]) -> str:
    return json.dumps(content, indent=2, allow_nan=False) + "\n"
