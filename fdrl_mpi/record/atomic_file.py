"""Files that appear complete or not at all, whatever kills the process or the machine."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | Path, durable: bool = True) -> Iterator[Path]:
    """Give a temporary name to write to; the file takes the name `path` when the block ends without an error.

    Whoever has the old file open keeps reading the old one. There must be one writer per `path`.

    Parameters
    ----------
    path : path
        The file to create or replace; its directory must exist.
    durable : bool
        Wait until file and name are on the disk, so that a power cut cannot undo them. Without it, only the
        death of the process is harmless.
    """
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    try:
        yield temporary
        if durable:
            sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync(path.parent)


def sync(path: str | Path) -> None:
    """Wait until a file's contents, or a directory's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: str | Path, content: Mapping[str, object]) -> None:
    """Write a JSON object atomically and durably; NaN and infinity, which JSON lacks, raise ValueError."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
