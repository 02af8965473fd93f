"""What is asked of a batch system, with stand-ins for its commands."""

from pathlib import Path

import pytest

from fdrl_mpi.batch_system import job_name, launcher_variables, requeue, tasks_per_host


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands that is all of PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def _command(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\necho {name} $* >>{folder}/calls\n{text}\n")
    (folder / name).chmod(0o755)


def test_tasks_per_host_are_read_from_slurm_and_pbs(tmp_path: Path) -> None:
    assert tasks_per_host({"SLURM_TASKS_PER_NODE": "16(x3),7"}) == [16, 16, 16, 7]
    assert tasks_per_host({"SLURM_TASKS_PER_NODE": "9,8"}) == [9, 8]
    (tmp_path / "nodes").write_text("n1\nn1\nn2\n")
    assert tasks_per_host({"PBS_NODEFILE": str(tmp_path / "nodes")}) == [2, 1]
    assert tasks_per_host({}) == []


def test_srun_is_told_the_cores_of_a_task_again() -> None:
    assert launcher_variables({"SLURM_CPUS_PER_TASK": "3"}) == {"SRUN_CPUS_PER_TASK": "3"}
    assert launcher_variables({}) == {}


def test_a_task_of_an_array_is_requeued_and_not_the_array() -> None:
    alone = {"SLURM_JOB_ID": "12"}
    assert job_name(alone) == "12"
    assert job_name(alone | {"SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"}) == "12_3"


def test_a_running_job_is_requeued_and_a_cancelled_one_is_not(answers: Path) -> None:
    _command(answers, "scontrol", "")
    _command(answers, "squeue", "echo COMPLETING")
    assert "completing" in requeue({"SLURM_JOB_ID": "12"})
    assert "scontrol" not in (answers / "calls").read_text()
    _command(answers, "squeue", "echo RUNNING")
    assert requeue({"SLURM_JOB_ID": "12"}) == ""
    assert "scontrol requeue 12" in (answers / "calls").read_text()


def test_why_a_job_is_not_requeued_is_told(answers: Path) -> None:
    assert "no SLURM job" in requeue({})
    _command(answers, "squeue", "echo RUNNING")
    _command(answers, "scontrol", "echo Requested operation is presently disabled >&2; exit 1")
    assert "presently disabled" in requeue({"SLURM_JOB_ID": "12"})
