"""What a run says about where it comes from."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import fdrl_mpi
from fdrl_mpi.record.provenance import collect, git_commit

HASH = "1234567890123456789012345678901234567890"


def test_versions_machine_and_command_are_there() -> None:
    facts = collect()
    assert facts["numpy_version"] == np.__version__
    assert facts["h5py_version"] == h5py.__version__
    assert facts["fdrl_mpi_version"] == fdrl_mpi.__version__
    assert {"python_version", "git_commit", "start_utc", "command", "host", "cpu_model"} <= facts.keys()
    assert int(facts["num_cores"]) >= 1


def test_variables_that_decide_about_speed_are_kept_and_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OMPI_MCA_coll", "^han")
    monkeypatch.setenv("MY_PASSWORD", "secret")
    facts = collect()
    assert facts["env_OMP_NUM_THREADS"] == "1"
    assert facts["env_OMPI_MCA_coll"] == "^han"
    assert "secret" not in facts.values()


def test_no_large_library_is_imported() -> None:
    code = (
        "import sys; from fdrl_mpi.record.provenance import collect; collect(); "
        "sys.exit(', '.join({'torch', 'mpi4py', 'gymnasium'} & sys.modules.keys()) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(fdrl_mpi.__file__).parents[1], check=True)


@pytest.mark.parametrize("packed", [True, False])
def test_the_commit_of_a_branch_is_found(tmp_path: Path, packed: bool) -> None:
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    if packed:
        (git / "packed-refs").write_text(f"# pack-refs with: peeled\n{HASH} refs/heads/main\n^{'0' * 40}\n")
    else:
        (git / "refs" / "heads" / "main").write_text(f"{HASH}\n")
    assert git_commit(tmp_path) == HASH


def test_the_commit_of_a_detached_head_is_found(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text(f"{HASH}\n")
    assert git_commit(tmp_path) == HASH


def test_the_commit_of_a_linked_work_tree_is_found(tmp_path: Path) -> None:
    linked = tmp_path / "main" / ".git" / "worktrees" / "other"
    (tmp_path / "main" / ".git" / "refs" / "heads").mkdir(parents=True)
    (tmp_path / "main" / ".git" / "refs" / "heads" / "topic").write_text(HASH)
    linked.mkdir(parents=True)
    (linked / "HEAD").write_text("ref: refs/heads/topic\n")
    (linked / "commondir").write_text("../..\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".git").write_text(f"gitdir: {linked}\n")
    assert git_commit(tmp_path / "other") == HASH


def test_outside_a_work_tree_the_commit_is_unknown(tmp_path: Path) -> None:
    assert git_commit(tmp_path) == "unknown"
