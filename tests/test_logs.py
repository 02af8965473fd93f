"""A log on a disk that refuses disturbs nobody."""

import logging
from pathlib import Path

import pytest

from fdrl_mpi.logs import LogFile


@pytest.mark.parametrize("path", ["/dev/full", "/proc/no/such/folder/log"])
def test_a_log_that_cannot_be_written_says_so_once_and_raises_nothing(path, capsys):
    if not Path(path).exists() and path == "/dev/full":
        pytest.skip("there is no /dev/full here")
    log, handler = logging.getLogger("fdrl_mpi.test_logs"), LogFile(Path(path))
    log.addHandler(handler)
    for _ in range(3):
        log.warning("something")
    log.removeHandler(handler)
    try:
        handler.close()
    except OSError:
        assert path == "/dev/full"  # what could not be written is still in the buffer
    assert capsys.readouterr().err.count("is not complete") == 1
