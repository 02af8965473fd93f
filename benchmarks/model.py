"""Predicts what collectives cost at sizes nobody here has: a model fitted to what was measured.

``python benchmarks/model.py [--ranks 3 5 9 17 33] [--hosts 3 5 9] [--rate 1gbit] [--out PNG] [--json]``

Each collective has two parameters: seconds a message and seconds a byte, as o and G in LogGP (Alexandrov et
al., SPAA 1995); `cost_model.py` counts messages and bytes. They are fitted by least squares of logarithms,
once to this machine, whose ranks share its cores and memory, and once to hosts with a link each (network
namespaces; needs root; leave --hosts empty to do without). The second is carried on to a million agents, a
host each. The work of a secure sum is not fitted: it is timed in one process. Models of 10,000 parameters are
left out between hosts: the token bucket of `tc` lets its first 64 kB pass at once.
"""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

from cost_model import HOSTS, NODE, Fit, fit, measure_crypto
from exchange_costs import exchange_points
from launching import REPOSITORY, mpirun
from reporting import machine, print_json, print_report

from fdrl_mpi.process import usable_cores

NODE_LENGTHS, HOST_LENGTHS = (1000, 10_000, 100_000, 1_000_000), (1000, 100_000, 1_000_000)
COLUMNS = {
    "place": "fitted to",
    "collective": "collective",
    "points": "points",
    "message_us": "us/message",
    "byte_ns": "ns/byte",
    "median_error": "median error",
    "worst_error": "worst error",
}


def main() -> None:
    """Measure, fit, report, draw."""
    arguments, facts = _arguments(), machine()
    crypto = measure_crypto()
    points = {"this node": [p for ranks in arguments.ranks for p in _on_node(ranks)]}
    if arguments.hosts:
        points["hosts"] = [p for hosts in arguments.hosts for p in _on_hosts(hosts, arguments.rate)]
    fits: list[Fit] = []
    for place, measured in points.items():
        counting = NODE if place == "this node" else HOSTS
        for name in sorted({point["collective"] for point in measured}):
            some = [point for point in measured if point["collective"] == name]
            fits.append(fit(place, name, counting[name], some, crypto, usable_cores()))
    rows = [one.row() for one in fits]
    print_report("Fitted costs", rows, COLUMNS, "errors relative to the measured times")
    predictions = [
        {"collective": one.collective, "agents": agents, "d": d, "predicted_s": one.predict(agents, d)}
        for one in fits
        if one.place == "hosts"
        for agents in (10, 100, 1000, 10_000, 100_000, 1_000_000)
        for d in (10_000, 1_000_000)
    ]
    if predictions:
        table = {"collective": "collective", "agents": "agents", "d": "d", "predicted_s": "predicted s"}
        print_report(f"Carried on, a host an agent, links of {arguments.rate}", predictions, table, "model")
    if arguments.out:
        from figures_of_model import draw

        draw(fits, crypto, arguments.rate, arguments.out)
        print(arguments.out)
    if arguments.json:
        measured = [{"place": place, **point} for place, some in points.items() for point in some]
        print_json(facts | {"crypto": crypto, "measured": measured}, rows + predictions)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--ranks", nargs="+", type=int, default=[3, 5, 9, 17, 33], help="ranks on this machine"
    )
    parser.add_argument("--hosts", nargs="*", type=int, default=[3, 5, 9], help="hosts with a rank each")
    parser.add_argument("--rate", default="1gbit", help="of each host's link, as tc writes it")
    parser.add_argument("--out", type=Path, help="draw a PNG")
    parser.add_argument("--json", action="store_true", help="print a last line of JSON")
    return parser.parse_args()


def _on_node(ranks: int) -> list[dict[str, Any]]:
    names = ["node", "tree", "allreduce", "gather", "secure_ring"]
    return exchange_points(ranks - 1, names, NODE_LENGTHS, 15, partial(mpirun, ranks))


def _on_hosts(hosts: int, rate: str) -> list[dict[str, Any]]:
    script = [sys.executable, str(REPOSITORY / "tests/hosts/namespaces.py"), str(hosts), "1", rate]

    def start(*words: str) -> list[str]:
        return [*script, "-n", str(hosts), sys.executable, *words]

    names = ["tree", "allreduce", "gather", "secure_ring"]
    return exchange_points(hosts - 1, names, HOST_LENGTHS, 7, start)


if __name__ == "__main__":
    main()
