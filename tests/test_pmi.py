"""Who speaks what, told from a launcher's variables."""

import pytest

from fdrl_mpi.launch_flags import check_launch
from fdrl_mpi.pmi import check_singletons, is_slurm_pmix, offered, slurm_tasks

STEP = {"SLURM_STEP_NUM_TASKS": "17"}


@pytest.mark.parametrize(
    ("variables", "interface", "fix"),
    [
        ({}, "none", "--mpi=pmix"),
        ({"PMIX_RANK": "0"}, "PMIx", "--mpi=pmi2"),
        ({"PMI_FD": "9"}, "PMI-2", "--mpi=pmix"),
    ],
)
def test_lone_tasks_are_told_another_interface_than_the_one_offered(
    variables: dict[str, str], interface: str, fix: str
) -> None:
    assert offered(variables) == interface
    problem = check_singletons(1, STEP | variables)
    assert problem is not None
    assert fix in problem.remedy
    assert interface == "none" or interface in problem.reason


def test_a_world_of_several_ranks_and_a_single_task_are_no_singletons() -> None:
    assert check_singletons(2, STEP) is None
    assert check_singletons(1, {"SLURM_STEP_NUM_TASKS": "1"}) is None
    assert check_singletons(1, {}) is None


def test_one_rank_of_mpirun_is_no_task_of_the_step_that_holds_its_daemon() -> None:
    assert slurm_tasks(STEP) == 17
    assert slurm_tasks(STEP | {"OMPI_COMM_WORLD_SIZE": "1"}) == 1


def test_surviving_is_refused_where_slurm_looks_after_the_ranks() -> None:
    tolerant = {"OMPI_MCA_mpi_ft_enable": "1", "OMPI_MCA_coll": "^han,adapt"}
    assert is_slurm_pmix({"PMIX_NAMESPACE": "slurm.pmix.7.0"})
    assert not is_slurm_pmix({"PMIX_NAMESPACE": "prterun-n1-7@1"})
    assert list(check_launch(tolerant)) == []
    (problem,) = check_launch(tolerant | {"PMIX_NAMESPACE": "slurm.pmix.7.0"})
    assert "slurm_mpirun.sbatch" in problem.remedy
