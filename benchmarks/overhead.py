"""How much of the default job's wall time is not training.

``python benchmarks/overhead.py [--ranks 17] [--repeats 3] [--json]``

The headline compares the job with the same steps trained by the same agents in one go: no rounds, exchange,
evaluation or checkpoints. The parts come from the job's record, as means over the agents or times of the
root; ranks that share cores overlap, so a part also counts the time in which another rank had the core.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from launching import recorded, run, train
from reporting import machine, print_json, print_report

from fdrl_mpi.arrays import DoubleArray
from fdrl_mpi.config import Config
from fdrl_mpi.record.metrics_file import Metrics

AGENT_PARTS = ("train_s", "wait_s", "encode_s", "exchange_s")
ROOT_PARTS = ("aggregate_s", "root_exchange_s", "record_s", "checkpoint_s", "evaluate_s")
COLUMNS = {
    "run": "run",
    "agents": "agents",
    "rounds": "rounds",
    "wall_s": "wall s",
    "pure_s": "pure training s",
    "not_training": "not training %",
    "after_slowest": "after slowest %",
    **{part: f"{part.removesuffix('_s')} %" for part in AGENT_PARTS + ROOT_PARTS},
}


def main() -> None:
    """Measure and report."""
    arguments, facts = _arguments(), machine()
    rows = [_row(number, arguments.ranks) for number in range(1, arguments.repeats + 1)]
    print_report("Share of the default job's wall time", rows, COLUMNS, "a run a line")
    if arguments.json:
        print_json(facts, rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ranks", type=int, default=17)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print a last line of JSON")
    return parser.parse_args()


def _job(ranks: int, *words: str) -> Metrics:
    with tempfile.TemporaryDirectory() as folder:
        run(train(ranks, Path(folder), *words))
        return recorded(Path(folder))


def _pure_training_s(ranks: int) -> float:
    """Train every agent alone with the steps of all rounds at once; return the seconds of the slowest."""
    config = Config()
    budget = str(config.rounds * config.learner.budget)
    record = _job(ranks, "--mode", "independent", "--rounds", "1", "--learner.budget", budget)
    return float(record.values["train_s"].max())


def _row(number: int, ranks: int) -> dict[str, Any]:
    record, pure_s = _job(ranks), _pure_training_s(ranks)
    values, num_agents = record.values, len(record.agents)
    wall_s = float(values["round_s"].sum() + values["checkpoint_s"][-1])
    slowest_s = float(np.nanmax(values["train_s"], axis=1).sum())

    def percent(seconds: DoubleArray, ranks: int) -> float:
        return 100.0 * float(np.nansum(seconds)) / ranks / wall_s

    return {
        "run": number,
        "agents": num_agents,
        "rounds": len(record.rounds),
        "wall_s": wall_s,
        "pure_s": pure_s,
        "not_training": 100.0 * (1.0 - pure_s / wall_s),
        "after_slowest": 100.0 * (1.0 - slowest_s / wall_s),
        **{part: percent(values[part], num_agents) for part in AGENT_PARTS},
        **{part: percent(values[part], 1) for part in ROOT_PARTS},
    }


if __name__ == "__main__":
    main()
