"""Whole runs over several hosts with slow links: time of the exchange, and bytes that cross them.

``python benchmarks/between_hosts.py [--hosts 3] [--ranks 4] [--rates 100mbit 1gbit] [--rounds 8] [--json]``

The hosts are network namespaces of this machine (root and iproute2 are needed), so their ranks share its
cores. *Record* is what the run's record says has crossed in a round; *wire* is what the hosts' interfaces
have sent in the whole run, MPI's headers, meetings and start included, over its rounds. The *limit* is one
model into the root's host and one out of it at the link's rate; the ratio is the exchange over that, of the
agent that waits longest: a root has sent as soon as the system has taken it.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from launching import LIMIT_S, REPOSITORY, untuned
from reporting import machine, print_json, print_report

from fdrl_mpi.record.metrics_file import read_metrics
from fdrl_mpi.reporting.series import moved_bytes

sys.path.insert(0, str(REPOSITORY / "tests/hosts"))
from namespaces import environment, hosts, missing, mpirun

LEARNING = (
    "--learner.network.hidden=[700,700] --learner.budget=128 --learner.num_steps=16 --learner.num_epochs=1"
)
BITS_PER_S = {"mbit": 1e6, "gbit": 1e9}
COLLECTIVES = ("node", "tree", "allreduce", "gather")
COLUMNS = {
    "rate": "link",
    "collective": "collective",
    "d": "d",
    "exchange_ms": "exchange ms",
    "limit_ms": "limit ms",
    "ratio": "ratio",
    "record_mb": "record MB/round",
    "wire_mb": "wire MB/round",
}


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--hosts", type=int, default=3)
    parser.add_argument("--ranks", type=int, default=4, help="on each host")
    parser.add_argument("--rates", nargs="+", default=["100mbit", "1gbit"], help="what a host sends at most")
    parser.add_argument("--collectives", nargs="+", default=COLLECTIVES, choices=COLLECTIVES)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--json", action="store_true", help="print a last line of JSON")
    options = parser.parse_args()
    if reason := missing():
        print(reason, file=sys.stderr)
        return 2
    rows = [
        _row(options.hosts, options.ranks, rate, name, options.rounds)
        for rate in options.rates
        for name in options.collectives
    ]
    title = f"{options.hosts} hosts of {options.ranks} ranks"
    print_report(title, rows, COLUMNS, f"medians of {options.rounds - 2} rounds")
    if options.json:
        print_json(machine(), rows)
    return 0


def _row(num_hosts: int, ranks: int, rate: str, collective: str, rounds: int) -> dict[str, Any]:
    words = [*LEARNING.split(), f"--rounds={rounds}", f"--comm.collective={collective}"]
    words += ["--evaluation.every=1000", "--checkpoint.every=1000", "--log.progress=none"]
    program = [sys.executable, "-m", "fdrl_mpi.train", *words]
    with tempfile.TemporaryDirectory() as folder, hosts(num_hosts, rate) as names:
        line = mpirun(names, ranks, ["-n", str(num_hosts * ranks), *program], Path(folder))
        with open(Path(folder) / "output.txt", "w") as output:
            subprocess.run(
                line,
                env=untuned() | environment(),
                cwd=folder,
                stdout=output,
                stderr=output,
                timeout=LIMIT_S,
                check=True,
            )
        wire_bytes = _sent_bytes(names)
        metrics = read_metrics(Path(folder) / "runs/cartpole/metrics.h5")
    d = metrics.attributes["num_parameters"]
    exchange_ms = 1e3 * float(np.median(np.nanmax(metrics.values["exchange_s"], axis=1)[1:-1]))
    limit_ms = 1e3 * 2 * 32 * d / (float(rate[:-4]) * BITS_PER_S[rate[-4:]])
    return {
        "rate": rate,
        "collective": metrics.attributes["collective"],
        "d": d,
        "exchange_ms": exchange_ms,
        "limit_ms": limit_ms,
        "ratio": exchange_ms / limit_ms,
        "record_mb": float(np.median(moved_bytes(metrics, "crossing_bytes"))) / 1e6,
        "wire_mb": wire_bytes / rounds / 1e6,
    }


def _sent_bytes(names: Sequence[str]) -> int:
    """Add up what the interfaces of hosts have sent so far."""
    counters = "/sys/class/net/eth0/statistics/tx_bytes"
    command = ("ip", "netns", "exec")
    return sum(int(subprocess.check_output([*command, name, "cat", counters], text=True)) for name in names)


if __name__ == "__main__":
    sys.exit(main())
