"""Agents of one rank that train together, beside the same agents in turn, in one process on one core.

``python benchmarks/batched.py [--agents 1 4 16 64 256] [--learners ppo a2c] [--repeats 5] [--json]``

Both take turns, round by round, with the same budgets; 64-64 networks. The rate counts the steps of all
agents. What an agent takes of memory is what a process of its own grew by when the agents, and their teams,
were made and had trained once. The limit are the products of the networks alone, at the speed of one large
product on this core: no way of training can pass it.
"""

import argparse
import gc
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from company import LEARNERS, make_company, passes_per_step, settings_of
from one_core import pin

from fdrl_mpi.process import prepare_process

WAYS = ("in_turn", "together")
COLUMNS = {
    "learner": "learner",
    "num_envs": "envs each",
    "agents": "agents",
    "in_turn": "in turn steps/s",
    "together": "together steps/s",
    "ratio": "ratio",
    "spread": "+-",
    "limit": "limit steps/s",
    "share": "of limit",
    "kib_in_turn": "KiB an agent in turn",
    "kib_together": "KiB an agent together",
}


def main() -> None:
    """Measure and report."""
    prepare_process()
    arguments = _arguments()
    if arguments.grown:
        print(_grown(*arguments.grown))
        return

    from reporting import machine, print_json, print_report

    from fdrl_mpi.rl.denormals import flush_denormals

    facts = machine() | {"pinned_to_core": pin()}
    flush_denormals()
    rows = [
        _row(learner, num_envs, count, arguments.repeats)
        for learner in arguments.learners
        for num_envs in arguments.num_envs
        for count in arguments.agents
    ]
    title = "Agents of a rank on one core"
    print_report(
        title,
        rows,
        COLUMNS,
        f"medians of {arguments.repeats} rounds; +-: half the quartile range of the ratio",
    )
    if arguments.json:
        print_json(facts, rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--agents", nargs="+", type=int, default=[1, 4, 16, 64, 256])
    parser.add_argument("--learners", nargs="+", default=list(LEARNERS), choices=LEARNERS)
    parser.add_argument("--num-envs", nargs="+", type=int, default=[1, 8], help="of each agent")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of each")
    parser.add_argument("--grown", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print a last line of JSON")
    return parser.parse_args()


def _row(learner: str, num_envs: int, count: int, repeats: int) -> dict[str, Any]:
    """Let both ways take turns; the first round of each is left out."""
    from reporting import Spread

    ways = {way: make_company(learner, num_envs, count, way == "together") for way in WAYS}
    for train in ways.values():
        train(1)
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for round in range(2, repeats + 2):
        for way, train in ways.items():
            started = perf_counter()
            steps = train(round)
            rates[way].append(steps / (perf_counter() - started))
    limit = _limit(learner, num_envs)
    together = Spread.of(rates["together"]).median
    ratio = Spread.of([b / a for a, b in zip(rates["in_turn"], rates["together"], strict=True)])
    return {
        "learner": learner,
        "num_envs": num_envs,
        "agents": count,
        **{way: Spread.of(values).median for way, values in rates.items()},
        "ratio": ratio.median,
        "spread": ratio.relative,
        "limit": limit,
        "share": together / limit,
        **{f"kib_{way}": _grown_alone(learner, num_envs, count, way) for way in WAYS},
    }


def _limit(learner: str, num_envs: int) -> float:
    """Compute the steps/s at which the products of the networks alone would take all the time."""
    import numpy as np

    from fdrl_mpi.build_agent import make_environment, make_model

    config = settings_of(learner, num_envs)
    environment = make_environment(config.environment, [{}] * num_envs)
    size = len(make_model(config.learner, config.seed, environment, "numpy", "cpu").params)
    matrix = np.random.default_rng(0).random((1024, 1024), np.float32)
    seconds = []
    for _ in range(10):
        started = perf_counter()
        np.matmul(matrix, matrix)
        seconds.append(perf_counter() - started)
    flop_per_step = 2.0 * size * passes_per_step(config.learner)
    return 2.0 * 1024**3 / min(seconds) / flop_per_step if flop_per_step else float("nan")


def _grown_alone(learner: str, num_envs: int, count: int, way: str) -> float:
    """Let a process of its own measure what an agent takes, KiB."""
    words = ["--grown", learner, str(num_envs), str(count), way]
    return float(subprocess.run([sys.executable, __file__, *words], check=True, capture_output=True).stdout)


def _grown(learner: str, num_envs: str, count: str, way: str) -> float:
    """Make agents and train them once; return what this process grew by for each, KiB."""
    make_company(learner, int(num_envs), 1, False)(1)
    before = _resident_bytes()
    train = make_company(learner, int(num_envs), int(count), way == "together")
    train(1)
    return (_resident_bytes() - before) / int(count) / 1024


def _resident_bytes() -> int:
    """Read how much memory this process holds."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


if __name__ == "__main__":
    main()
