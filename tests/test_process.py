"""What a rank settles before numpy and MPI are loaded, with an environment that the test makes up."""

import os
from pathlib import Path

import pytest

from fdrl_mpi.process import (
    THREAD_VARIABLES,
    is_launched,
    launched_rank,
    local_size,
    prepare_process,
    usable_cores,
)


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a process without a launcher, on a host of two cores."""
    variables: dict[str, str] = {}
    monkeypatch.setattr(os, "environ", variables)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    return variables


def test_a_rank_gets_one_thread_and_no_slow_transport(variables: dict[str, str]) -> None:
    del variables["PYTEST_CURRENT_TEST"]
    prepare_process()
    assert variables == {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "NUMEXPR_NUM_THREADS": "1",
        "OMPI_MCA_btl": "^ofi,sm",
    }
    del variables["OMPI_MCA_btl"]
    variables["OMPI_COMM_WORLD_RANK"] = "0"
    prepare_process()
    assert variables["OMPI_MCA_btl"] == "^ofi"


def test_a_rank_gets_the_cores_that_slurm_was_asked_for(variables: dict[str, str]) -> None:
    variables["SLURM_CPUS_PER_TASK"] = "3"
    prepare_process()
    assert {variables[name] for name in THREAD_VARIABLES} == {"3"}


def test_an_open_mpi_of_pip_under_slurms_pmix_is_told_where_it_is(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    variables["PMIX_NAMESPACE"] = "slurm.pmix.7.0"
    prepare_process()
    assert "OPAL_PREFIX" not in variables
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/libmpi.so.40").touch()
    prepare_process()
    assert variables["OPAL_PREFIX"] == str(tmp_path)


@pytest.mark.parametrize(("ranks", "yields"), [("1", False), ("2", False), ("3", True), ("17", True)])
def test_waiting_ranks_yield_where_ranks_exceed_cores(
    ranks: str, yields: bool, variables: dict[str, str]
) -> None:
    variables["OMPI_COMM_WORLD_LOCAL_SIZE"] = ranks
    prepare_process()
    assert variables.get("OMPI_MCA_mpi_yield_when_idle") == ("1" if yields else None)


def test_what_the_user_has_set_stays(variables: dict[str, str]) -> None:
    own = {
        "OMP_NUM_THREADS": "4",
        "OPENBLAS_NUM_THREADS": "",
        "OMPI_MCA_btl": "tcp,self",
        "OMPI_MCA_mpi_yield_when_idle": "0",
    }
    variables.update(own, OMPI_COMM_WORLD_LOCAL_SIZE="17")
    prepare_process()
    assert {name: variables[name] for name in own} == own
    assert variables["MKL_NUM_THREADS"] == "1"


def test_the_launchers_own_rank_goes_before_that_of_the_batch_system(variables: dict[str, str]) -> None:
    """As they come to be set, the weakest first: each overrules those before it."""
    assert not is_launched()
    assert launched_rank() == 0
    names = ("SLURM_PROCID", "PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")
    for rank, name in enumerate(names, 5):
        variables[name] = str(rank)
        assert is_launched()
        assert launched_rank() == rank


@pytest.mark.parametrize(
    ("name", "value", "size"),
    [
        ("OMPI_COMM_WORLD_LOCAL_SIZE", "17", 17),
        ("MPI_LOCALNRANKS", "3", 3),
        ("SLURM_TASKS_PER_NODE", "16", 16),
        ("SLURM_TASKS_PER_NODE", "16(x4)", 16),
        ("SLURM_TASKS_PER_NODE", "16(x3),7", 16),
        ("SLURM_TASKS_PER_NODE", "9,8", 9),
        ("SLURM_TASKS_PER_NODE", "", 1),
        ("HOME", "/root", 1),
    ],
)
def test_ranks_of_this_host_are_read_from_the_launcher(
    name: str, value: str, size: int, variables: dict[str, str]
) -> None:
    variables[name] = value
    assert local_size() == size


def test_the_launchers_count_goes_before_that_of_the_batch_system(variables: dict[str, str]) -> None:
    variables.update(SLURM_TASKS_PER_NODE="64", MPI_LOCALNRANKS="8")
    assert local_size() == 8
    variables["OMPI_COMM_WORLD_LOCAL_SIZE"] = "4"
    assert local_size() == 4


def test_a_bound_rank_counts_the_cores_of_the_daemon_that_started_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)) if process else {5})
    assert usable_cores() == 8


def test_a_rank_that_may_not_look_at_its_parent_counts_its_own_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def affinity(process: int) -> set[int]:
        if process:
            raise ProcessLookupError(process)
        return {0, 2, 4}

    monkeypatch.setattr(os, "sched_getaffinity", affinity)
    assert usable_cores() == 3
