"""How much of a run's wall time is not training, from its own record.

``python benchmarks/overhead.py [RUN_DIRECTORY ...] [--ranks 17] [--repeats 3] [--json]``

Without a directory the default job is run. Nobody trains in what is left of a round after its slowest
agent's training; that share of the wall time is the headline. The parts are means over the agents, who
overlap: on cores that are shared, a part counts the time in which another rank had the core.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from launching import recorded, run, train
from reporting import machine, print_json, print_report

from fdrl_mpi.arrays import DoubleArray
from fdrl_mpi.record.metrics_file import Metrics, read_metrics

AGENT_PARTS = ("train_s", "wait_s", "encode_s", "exchange_s")
ROOT_PARTS = ("aggregate_s", "root_exchange_s", "record_s", "checkpoint_s", "evaluate_s")
COLUMNS = {
    "run": "run",
    "agents": "agents",
    "rounds": "rounds",
    "wall_s": "wall s",
    "not_training": "not training %",
    **{part: f"{part.removesuffix('_s')} %" for part in AGENT_PARTS + ROOT_PARTS},
}


def main() -> None:
    """Measure and report."""
    arguments, facts = _arguments(), machine()
    records = [read_metrics(path / "metrics.h5") for path in arguments.runs]
    names = [str(path) for path in arguments.runs]
    if not records:
        records = [_default_job(arguments.ranks) for _ in range(arguments.repeats)]
        names = [f"default {number}" for number in range(1, len(records) + 1)]
    rows = [_row(name, record) for name, record in zip(names, records, strict=True)]
    print_report(
        "Share of the wall time", rows, COLUMNS, "each run once; percent of the wall time of all rounds"
    )
    if arguments.json:
        print_json(facts, rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN_DIRECTORY")
    parser.add_argument("--ranks", type=int, default=17)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print a last line of JSON")
    return parser.parse_args()


def _default_job(ranks: int) -> Metrics:
    with tempfile.TemporaryDirectory() as folder:
        run(train(ranks, Path(folder)))
        return recorded(Path(folder))


def _row(name: str, record: Metrics) -> dict[str, Any]:
    values, num_agents = record.values, len(record.agents)
    wall_s = float(values["round_s"].sum() + values["checkpoint_s"][-1])
    slowest_s = float(np.nanmax(values["train_s"], axis=1).sum())

    def percent(seconds: DoubleArray, ranks: int) -> float:
        return 100.0 * float(np.nansum(seconds)) / ranks / wall_s

    return {
        "run": name,
        "agents": num_agents,
        "rounds": len(record.rounds),
        "wall_s": wall_s,
        "not_training": 100.0 * (1.0 - slowest_s / wall_s),
        **{part: percent(values[part], num_agents) for part in AGENT_PARTS},
        **{part: percent(values[part], 1) for part in ROOT_PARTS},
    }


if __name__ == "__main__":
    main()
