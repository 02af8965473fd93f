"""Several hosts on one machine: network namespaces joined by a bridge that is a namespace too.

Nothing of the machine's own network is touched, and nothing outside can be reached. Each host has a name of
its own, so MPI takes ranks on different ones for remote and talks TCP between them.

Runs as a script too: ``python tests/hosts/namespaces.py HOSTS SLOTS RATE COMMAND...`` (RATE as `tc` writes
it, for example 100mbit, or - for none) starts ``mpirun COMMAND`` over them.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

SWITCH, PREFIX, NETWORK = "fdrlsw", "fdrlh", "10.79.0"
"""Names and addresses that exist only inside the namespaces."""


def missing() -> str:
    """Say what this machine lacks; empty if nothing."""
    if os.geteuid() != 0:
        return "only root makes network namespaces"
    if not (shutil.which("ip") and shutil.which("tc")):
        return "ip and tc are not installed (Debian: apt install iproute2)"
    tried = subprocess.run(["ip", "netns", "add", f"{PREFIX}try"], capture_output=True, text=True)
    if tried.returncode:
        return f"no network namespaces here: {tried.stderr.strip()}"
    _ip("netns", "del", f"{PREFIX}try")
    return ""


@contextmanager
def hosts(number: int, rate: str = "-") -> Iterator[list[str]]:
    """Make hosts and give their names; afterwards they are gone.

    Parameters
    ----------
    number : int
    rate : str
        What each host sends at most, as `tc` writes it; "-": as fast as it can.
    """
    names = [f"{PREFIX}{index}" for index in range(number)]
    _remove(names)
    try:
        _ip("netns", "add", SWITCH)
        _ip("-n", SWITCH, "link", "add", "bridge0", "type", "bridge")
        _ip("-n", SWITCH, "link", "set", "bridge0", "up")
        for index, name in enumerate(names):
            _join(name, index, names, rate)
        yield names
    finally:
        _remove(names)


def plug(index: int, is_in: bool) -> None:
    """Plug the cable of a host into the switch, or pull it out."""
    _ip("-n", SWITCH, "link", "set", f"port{index}", "up" if is_in else "down")


def mpirun(
    names: Sequence[str], slots: int | Sequence[int], command: Sequence[str], folder: Path
) -> list[str]:
    """Write the command line that starts `command` on these hosts, `slots` ranks on each.

    mpirun starts its daemons with a script of ours where it would use ssh.
    """
    agent = folder / "agent"
    agent.write_text(
        '#!/bin/sh\nhost=$1; shift\nexec ip netns exec "$host" unshare --uts sh -c '
        '\'hostname "$0" && exec sh -c "$*"\' "$host" "$@"\n'
    )
    agent.chmod(0o755)
    each = [slots] * len(names) if isinstance(slots, int) else slots
    listed = ",".join(f"{name}:{number}" for name, number in zip(names, each, strict=True))
    options = {
        "--prtemca plm": "ssh",
        "--prtemca plm_ssh_agent": str(agent),
        "--prtemca prte_if_include": "eth0",
        "--mca btl_tcp_if_include": "eth0",
        "--mca pml": "ob1",
        "--mca btl": "self,sm,tcp",
        "--mca mpi_yield_when_idle": "1",
    }
    flags = [word for name, value in options.items() for word in (*name.split(), value)]
    launcher = ["ip", "netns", "exec", names[0], "unshare", "--uts", "sh", "-c"]
    start = 'hostname "$0" && exec "$@"'
    return [*launcher, start, names[0], "mpirun", *flags, "--host", listed, "--bind-to", "none", *command]


def environment() -> dict[str, str]:
    """Return the variables for `mpirun` as root."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin"
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return {**os.environ, **allowed, "PATH": path}


def _join(name: str, index: int, names: Sequence[str], rate: str) -> None:
    """Make one host and plug it into the switch."""
    table = [f"{NETWORK}.{number + 1} {other}" for number, other in enumerate(names)]
    folder = Path("/etc/netns") / name  # what lies here stands in for /etc inside the namespace
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *table, ""]))
    _ip("netns", "add", name)
    _ip("link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", f"port{index}", "netns", SWITCH)
    _ip("-n", SWITCH, "link", "set", f"port{index}", "master", "bridge0", "up")
    _ip("-n", name, "addr", "add", f"{NETWORK}.{index + 1}/24", "dev", "eth0")
    for device in ("lo", "eth0"):
        _ip("-n", name, "link", "set", device, "up")
    if rate != "-":
        limit = ["tbf", "rate", rate, "burst", "64kb", "latency", "100ms"]
        _run("ip", "netns", "exec", name, "tc", "qdisc", "add", "dev", "eth0", "root", *limit)


def _remove(names: Sequence[str]) -> None:
    """Take hosts away, and end what still runs there: daemons of mpirun that were cut off wait for ever."""
    for name in (*names, SWITCH):
        found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
        for pid in found.stdout.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", name], capture_output=True)
        shutil.rmtree(Path("/etc/netns") / name, ignore_errors=True)
        for segment in Path("/dev/shm").glob(f"sm_segment.{name}.*"):  # MPI's, of ranks that were killed
            segment.unlink(missing_ok=True)


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


def main() -> int:
    """Start a command over hosts that exist as long as it runs."""
    if reason := missing():
        print(reason, file=sys.stderr)
        return 2
    number, slots, rate, *command = sys.argv[1:]
    with hosts(int(number), rate) as names, tempfile.TemporaryDirectory() as folder:
        line = mpirun(names, int(slots), command, Path(folder))
        return subprocess.run(line, env=environment()).returncode


if __name__ == "__main__":
    sys.exit(main())
