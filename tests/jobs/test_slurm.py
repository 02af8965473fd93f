"""The job scripts in a real SLURM of two nodes on this machine."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from cluster import PREFIX, cluster, missing

from fdrl_mpi.record.checkpoint import CheckpointStore
from fdrl_mpi.record.metrics_file import read_metrics

pytestmark = pytest.mark.launch
REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 60.0
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED")
SMALL = {
    "rounds": "12",
    "environment.num_envs": "2",
    "learner.budget": "64",
    "learner.num_steps": "16",
    "learner.num_minibatches": "2",
    "learner.network.hidden": "[8,8]",
    "evaluation.episodes": "1",
    "checkpoint.every": "1000",
}
SIX = ("--nodes=2", "--ntasks=6", "--ntasks-per-node=3")
"""Ranks that sit in the same way each time: sums between nodes are added in the order of ranks on them."""
DAWDLE = "rank=1,round=5,phase=train,action=sleep,delay_s=3"
"""Time to do something to a job while it is in a round that is not its last."""


def script(name: str) -> tuple[str, ...]:
    """Name a script of ours and say that its launcher need not make a report."""
    return f"jobs/{name}.sbatch", "--no-report"


class Slurm:
    """A cluster and what one test does with it."""

    def __init__(self, variables: dict[str, str], folder: Path) -> None:
        own = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        self.environment = {**os.environ, **variables, **own, "VIRTUAL_ENV": sys.prefix}
        self.folder = folder

    def ask(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=REPOSITORY,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE_S,
        )

    def submit(self, *command: str, faults: str = "") -> str:
        """Submit options, a script of ours and its arguments; return the job's number."""
        place = ("--parsable", f"--output={self.folder}/out_%a.txt", "--open-mode=append")
        done = self.ask("sbatch", *place, *command, FDRL_FAULTS=faults)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def output(self) -> str:
        files = sorted(self.folder.glob("out_*.txt"))
        return "".join(path.read_text(errors="replace") for path in files).replace("\0", "")

    def wait(self, is_so: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not is_so():
            assert time.monotonic() < deadline, f"no {what}:\n{self.output()}\n{self.ask('squeue').stdout}"
            time.sleep(0.1)

    def facts(self, job: str) -> dict[str, str]:
        words = self.ask("scontrol", "--oneliner", "show", "job", job).stdout.split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def finish(self, job: str) -> dict[str, str]:
        """Wait until a job is over for good; return what SLURM knows of it."""
        self.wait(lambda: self.facts(job)["JobState"] in ENDED, f"end of job {job}")
        return self.facts(job)

    def wait_for_fault(self) -> None:
        self.wait(lambda: "fault at" in self.output(), "round to disturb")

    def arguments(self, **overrides: str) -> list[str]:
        values = SMALL | {"run.dir": str(self.folder / "runs")} | overrides
        return [f"--{name}={value}" for name, value in values.items()]

    def verdict(self, name: str = "cartpole") -> dict[str, object]:
        return json.loads((self.folder / "runs" / name / "verdict.json").read_text())

    def model(self, name: str = "cartpole") -> np.ndarray:
        store = CheckpointStore(self.folder / "runs" / name, 1)
        return store.load(store.rounds()[-1], "global.h5")["params"]


@pytest.fixture(scope="module")
def variables() -> Iterator[dict[str, str]]:
    """A running cluster, by the variables that its commands need; the program is installed."""
    if reason := missing():
        pytest.skip(reason)
    setup = ["bash", "-c", "source jobs/setup.sh report,export"]
    subprocess.run(setup, cwd=REPOSITORY, env={**os.environ, "VIRTUAL_ENV": sys.prefix}, check=True)
    with cluster(2) as variables:
        yield variables


@pytest.fixture
def slurm(variables: dict[str, str], tmp_path: Path) -> Slurm:
    return Slurm(variables, tmp_path)


@pytest.fixture(scope="module")
def unbroken(variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The model of a run of six ranks on two nodes that nothing has disturbed."""
    slurm = Slurm(variables, tmp_path_factory.mktemp("unbroken"))
    train = (sys.executable, "-m", "fdrl_mpi.train", *slurm.arguments())
    done = slurm.ask("srun", "--mpi=pmix", *SIX, *train)
    assert done.returncode == 0, done.stderr
    return slurm.model()


def test_seventeen_ranks_on_two_nodes_leave_a_verdict(slurm: Slurm) -> None:
    job = slurm.submit("--nodes=2", *script("slurm"), *slurm.arguments(rounds="2"))
    assert slurm.finish(job)["JobState"] == "COMPLETED", slurm.output()
    assert slurm.verdict()["outcome"] == "finished"
    hosts = read_metrics(slurm.folder / "runs/cartpole/metrics.h5").agent_facts["host"].values
    assert len(hosts) == 16
    assert len(set(hosts)) == 2


def test_signal_before_the_time_limit_requeues_the_job_and_it_goes_on_to_the_bit(
    slurm: Slurm, unbroken: np.ndarray
) -> None:
    job = slurm.submit(*SIX, *script("slurm"), *slurm.arguments(), faults=DAWDLE)
    slurm.wait_for_fault()
    slurm.ask("scancel", "--signal=USR1", job)  # as --signal=USR1@180 does
    facts = slurm.finish(job)
    assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "1"), slurm.output()
    assert "stopped after round" in slurm.output()
    assert slurm.verdict()["outcome"] == "finished"
    assert np.array_equal(slurm.model(), unbroken)


def test_preempted_job_saves_its_state_and_goes_on_to_the_bit(slurm: Slurm, unbroken: np.ndarray) -> None:
    job = slurm.submit("--exclusive", *SIX, *script("slurm"), *slurm.arguments(), faults=DAWDLE)
    slurm.wait_for_fault()
    urgent = slurm.ask(
        "sbatch",
        "--parsable",
        "--partition=urgent",
        "-N2",
        "--exclusive",
        "--output=/dev/null",
        "--wrap=true",
    )
    facts = slurm.finish(job)
    assert slurm.finish(urgent.stdout.strip())["JobState"] == "COMPLETED"
    assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "1"), slurm.output()
    assert "stopped after round" in slurm.output()
    assert np.array_equal(slurm.model(), unbroken)


def test_cancelled_job_saves_its_state_and_does_not_come_back(slurm: Slurm) -> None:
    job = slurm.submit("--ntasks=3", *script("slurm"), *slurm.arguments(), faults=DAWDLE)
    slurm.wait_for_fault()
    slurm.ask("scancel", job)
    assert slurm.finish(job)["JobState"] == "CANCELLED"
    slurm.wait(lambda: (slurm.folder / "runs/cartpole/verdict.json").exists(), "verdict")
    assert slurm.verdict()["outcome"] == "stopped"
    slurm.wait(lambda: not slurm.ask("squeue", "-h").stdout, "empty queue")
    assert slurm.facts(job)["Restarts"] == "0"


def test_mpirun_passes_the_signal_on_and_the_job_goes_on_to_the_bit(
    slurm: Slurm, unbroken: np.ndarray
) -> None:
    job = slurm.submit(*SIX, *script("slurm_mpirun"), *slurm.arguments(), faults=DAWDLE)
    slurm.wait_for_fault()
    slurm.ask("scancel", "--batch", "--signal=USR1", job)  # as --signal=B:USR1@180 does
    facts = slurm.finish(job)
    assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "1"), slurm.output()
    assert "stopped after round" in slurm.output()
    assert np.array_equal(slurm.model(), unbroken)


def test_run_under_mpirun_survives_a_killed_rank(slurm: Slurm) -> None:
    kill = "rank=4,round=3,phase=exchange,action=kill"
    arguments = slurm.arguments(**{"faults.mode": "survive"})
    job = slurm.submit(*SIX, *script("slurm_mpirun"), *arguments, faults=kill)
    assert slurm.finish(job)["JobState"] == "COMPLETED", slurm.output()
    verdict = slurm.verdict()
    assert verdict["outcome"] == "finished"
    assert [failure["lost_ranks"] for failure in verdict["failures"]] == [[4]]


def test_array_makes_a_run_of_each_seed(slurm: Slurm) -> None:
    size = ("--array=3,5", "--ntasks=3")
    job = slurm.submit(*size, *script("slurm_array"), *slurm.arguments(rounds="2"))
    for seed in (3, 5):
        assert slurm.finish(f"{job}_{seed}")["JobState"] == "COMPLETED", slurm.output()
        assert slurm.verdict(f"seed_{seed}")["outcome"] == "finished"
    assert not np.array_equal(slurm.model("seed_3"), slurm.model("seed_5"))


def test_stopped_task_of_an_array_is_requeued_alone(slurm: Slurm) -> None:
    """The last task has the number of the whole array for its own."""
    size = ("--array=3,5", "--ntasks=2")
    job = slurm.submit(*size, *script("slurm_array"), *slurm.arguments(), faults=DAWDLE)
    slurm.wait(lambda: slurm.output().count("fault at") == 2, "round to disturb")
    slurm.ask("scancel", "--signal=USR1", f"{job}_5")
    other, stopped = slurm.finish(f"{job}_3"), slurm.finish(f"{job}_5")
    assert (other["Restarts"], stopped["Restarts"]) == ("0", "1"), slurm.output()
    assert slurm.verdict("seed_5")["outcome"] == "finished"


def test_tasks_under_a_plain_srun_are_refused_with_the_fix(slurm: Slurm) -> None:
    train = (sys.executable, "-m", "fdrl_mpi.train", *slurm.arguments())
    for plugin, reason in (("none", "an MPI job of its own"), ("pmi2", "offers PMI-2")):
        done = slurm.ask("srun", f"--mpi={plugin}", "-n3", *train)
        assert done.returncode == 2, done.stderr
        assert done.stderr.count("3 SLURM tasks, but a world of one rank") == 1
        assert reason in done.stderr
        assert "srun --mpi=pmix" in done.stderr
    assert not (slurm.folder / "runs").exists()


def test_surviving_under_srun_is_refused_with_the_fix(slurm: Slurm) -> None:
    arguments = slurm.arguments(**{"faults.mode": "survive"})
    job = slurm.submit("--ntasks=3", *script("slurm"), *arguments)
    facts = slurm.finish(job)
    assert (facts["JobState"], facts["ExitCode"]) == ("FAILED", "2:0"), slurm.output()
    assert slurm.output().count("slurm_mpirun.sbatch") == 1


def test_doctor_sees_every_node_and_names_what_srun_offers(slurm: Slurm) -> None:
    doctor = (sys.executable, "-m", "fdrl_mpi.doctor", "--dir", str(slurm.folder))
    alone, inside = slurm.ask(*doctor), slurm.ask("srun", "--mpi=pmix", "-N2", "-n3", *doctor)
    assert "srun offers pmix" in alone.stdout
    assert "world size 3" in inside.stdout
    assert f"{PREFIX}1" in inside.stdout
    lone = slurm.ask("srun", "--mpi=pmi2", "-n2", *doctor)
    assert lone.returncode == 1
    assert "offers PMI-2" in lone.stdout


def test_every_rank_of_a_node_sees_all_of_its_gpus(slurm: Slurm) -> None:
    size, on_cpu = ("--ntasks=3", "--gpus-per-node=2"), ("--learner.engine=numpy", "--learner.device=cpu")
    job = slurm.submit(*size, *script("slurm_gpu"), *slurm.arguments(rounds="1"), *on_cpu)
    assert slurm.finish(job)["JobState"] == "COMPLETED", slurm.output()
    seen = slurm.ask("srun", "-n2", "--gpus-per-node=2", "printenv", "CUDA_VISIBLE_DEVICES").stdout
    assert seen.split() == ["0,1", "0,1"]


def test_scaling_study_measures_what_a_job_has_room_for(slurm: Slurm) -> None:
    folder, small = slurm.folder / "study", ("--collectives=node", "--rounds=4", "--agents-per-rank")
    wide = slurm.submit(
        "--ntasks=2", "jobs/slurm_scaling.sbatch", f"--out={folder}", "--ranks", "1", "2", *small
    )
    assert slurm.finish(wide)["ExitCode"] == "2:0"
    assert "this batch job has 2 tasks" in slurm.output()
    job = slurm.submit(
        "--nodes=2", "--ntasks=2", "jobs/slurm_scaling.sbatch", f"--out={folder}", "--ranks=1", *small
    )
    assert slurm.finish(job)["JobState"] == "COMPLETED", slurm.output()
    assert (folder / "study.h5").exists()
    assert (folder / "efficiency.png").exists()
