"""A SLURM of several nodes on this machine, for as long as somebody needs it.

Its key, state and logs are in one folder, its ports are free ones on the loopback interface, and its daemons
end with the process that has started them. A SLURM of the machine's own is neither read nor written.

Each node is a slurmd in namespaces of its own for the host's name and for mounts: PMIx compares SLURM's
name of a node with that of the host, and MPI takes ranks on different nodes for remote. Nodes claim more
cores than there are. Install it as root (Debian; ``libpmix-dev`` has the name that SLURM looks for)::

    apt-get install --no-install-recommends slurm-wlm munge libpmix2 libpmix-dev

Runs as a script too: ``python tests/jobs/cluster.py [NODES]`` starts one, prints the variable that makes it
yours, and ends it with Ctrl-C.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

INSTALL = "apt-get install --no-install-recommends slurm-wlm munge libpmix2 libpmix-dev"
PREFIX = f"fdrl{os.getpid()}n"
"""Of the nodes' names: MPI's shared memory is named after host and job, and clusters at the same time count
their jobs alike."""
NEEDED = ("munged", "slurmctld", "slurmd", "srun", "setpriv", "unshare")
CORES, GPUS = 32, 2
"""What each node claims to have; the GPUs are null devices."""
START_S, END_S = 60.0, 20.0
IN_NAMESPACES = (
    'mount --bind "$1" /etc/hosts && if [ -n "$2" ]; then hostname "$2"; fi && shift 2 && exec "$@"'
)

CONFIGURATION = """\
ClusterName=fdrl
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
# cred_expire: so long a requeued job waits before it may start again (SLURM: 120 s)
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
# PMIx makes a folder of the same name for a step on every node
TmpFS={folder}/tmp.%n
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
EnforcePartLimits=ALL
ReturnToService=2
KillWait=15
InactiveLimit=0
SlurmdParameters=config_overrides
GresTypes=gpu
{nodes}
PartitionName=main Nodes={names} Default=YES State=UP PriorityTier=1 GraceTime=30
PartitionName=urgent Nodes={names} State=UP PriorityTier=10 PreemptMode=OFF
"""


def missing() -> str:
    """Say what this machine lacks; empty if nothing."""
    if os.geteuid() != 0:
        return "only root makes the namespaces of the nodes"
    _find_daemons()
    if lacking := [name for name in NEEDED if not shutil.which(name)]:
        return f"{', '.join(lacking)} not installed (Debian: {INSTALL})"
    tried = subprocess.run(["unshare", "--uts", "--mount", "true"], capture_output=True, text=True)
    return f"no namespaces here: {tried.stderr.strip()}" if tried.returncode else ""


@contextmanager
def cluster(number: int = 2) -> Iterator[dict[str, str]]:
    """Start a cluster and give the variables that its commands need; afterwards it is gone."""
    _find_daemons()
    names = [f"{PREFIX}{index}" for index in range(number)]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fdrl_slurm_")))
        folder.chmod(0o755)  # munge looks
        _write(folder, names)
        stack.callback(_sweep)
        variables = {"SLURM_CONF": str(folder / "slurm.conf")}
        munge = ["--foreground", "--force", "--num-threads=2", f"--key-file={folder}/key"]
        munge += [f"--{name}-file={folder}/munge.{name}" for name in ("pid", "log", "seed")]
        _start(stack, folder, ["munged", *munge, f"--socket={folder}/munge.socket"])
        _wait(lambda: (folder / "munge.socket").exists(), folder)
        _start(stack, folder, _in_namespaces(folder, "", "slurmctld", "-D"), variables)
        for name in names:
            _start(stack, folder, _in_namespaces(folder, name, "slurmd", "-D", "-N", name), variables)
        stack.callback(_cancel_all, variables)
        _wait(lambda: _idle(variables) == number, folder)
        yield variables


def _find_daemons() -> None:
    if "/usr/sbin" not in os.environ["PATH"].split(":"):
        os.environ["PATH"] += ":/usr/sbin"


def _write(folder: Path, names: Sequence[str]) -> None:
    """Write the configuration, the key, and the files by which nodes find each other."""
    ports = _free_ports(len(names) + 1)
    (folder / "key").write_bytes(secrets.token_bytes(128))
    (folder / "key").chmod(0o600)
    hosts = [f"127.0.0.1 {name}" for name in ("localhost", socket.gethostname(), *names)]
    (folder / "hosts").write_text("\n".join([*hosts, Path("/etc/hosts").read_text()]))
    for index in range(GPUS):
        os.mknod(folder / f"gpu{index}", 0o20666, os.makedev(1, 3))
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-{GPUS - 1}]\n")
    for name in ("state", *(f"{kind}.{name}" for kind in ("spool", "tmp") for name in names)):
        (folder / name).mkdir()
    nodes = [
        f"NodeName={name} NodeAddr=127.0.0.1 Port={port} CPUs={CORES} RealMemory=16000 Gres=gpu:{GPUS}"
        for name, port in zip(names, ports[1:], strict=True)
    ]
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(
            host=socket.gethostname(),
            port=ports[0],
            folder=folder,
            nodes="\n".join(nodes),
            names=",".join(names),
        )
    )


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _in_namespaces(folder: Path, name: str, *daemon: str) -> list[str]:
    return [
        "unshare",
        "--uts",
        "--mount",
        "sh",
        "-c",
        IN_NAMESPACES,
        "sh",
        str(folder / "hosts"),
        name,
        *daemon,
        "-f",
        str(folder / "slurm.conf"),
    ]


def _start(
    stack: ExitStack, folder: Path, command: Sequence[str], variables: dict[str, str] | None = None
) -> None:
    """Start a daemon that ends with this process, or before."""
    output = stack.enter_context((folder / "daemons.log").open("ab"))
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "TERM", *command],
        env=os.environ | (variables or {}),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        process_group=0,  # Ctrl-C is for us
    )
    stack.callback(_end, process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait(is_ready: Callable[[], bool], folder: Path) -> None:
    deadline = time.monotonic() + START_S
    while not is_ready():
        if time.monotonic() > deadline:
            logs = "\n".join(path.read_text(errors="replace") for path in folder.glob("*.log"))
            raise RuntimeError(f"SLURM does not start:\n{logs}")
        time.sleep(0.1)


def _ask(variables: dict[str, str], *command: str) -> str:
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=60)
    return done.stdout


def _idle(variables: dict[str, str]) -> int:
    return _ask(variables, "sinfo", "-h", "-N", "-p", "main", "-t", "idle", "-o", "%N").count(PREFIX)


def _cancel_all(variables: dict[str, str]) -> None:
    """End what is still running, and wait for it: steps are no children of the daemons."""
    _ask(variables, "scancel", "--full", "--signal=KILL", "-u", "root")
    _ask(variables, "scancel", "-u", "root")
    deadline = time.monotonic() + END_S
    while _ask(variables, "squeue", "-h") and time.monotonic() < deadline:
        time.sleep(0.2)


def _sweep() -> None:
    """Remove the shared memory of ranks that were killed."""
    for path in Path("/dev/shm").glob(f"sm_segment.{PREFIX}*"):
        path.unlink(missing_ok=True)


def main() -> None:
    """Start a cluster for somebody at the terminal."""
    if reason := missing():
        sys.exit(reason)
    with cluster(int(sys.argv[1]) if len(sys.argv) > 1 else 2) as variables:
        print(*(f"export {name}={value}" for name, value in variables.items()), flush=True)
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.pause()


if __name__ == "__main__":
    main()
