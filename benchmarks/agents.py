"""Sixteen agents that share the cores, beside as many agents as there are cores, each alone on one.

``python benchmarks/agents.py [--agents 16] [--repeats 3] [--json]``

Real runs under mpirun with no tuning variable set, read from their records: PPO on 4 CartPoles an agent, with
and without exchange. The first and the last round are left out.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from launching import recorded, run, train
from reporting import Spread, machine, print_json, print_report

from fdrl_mpi.process import usable_cores

MODES = ("independent", "federated")
COLUMNS = {
    "mode": "mode",
    "agents": "agents",
    "env_steps_per_s": "steps/s in all",
    "spread": "+-",
    "ratio_to_alone": "of agents alone",
}
_KEYS = {
    "--environment.num_envs": "4",
    "--environment.heterogeneity": "{}",
    "--evaluation.every": "1000000",
    "--checkpoint.every": "1000000",
    "--log.level": "warning",
}


def main() -> None:
    """Measure and report."""
    arguments, facts = _arguments(), machine()
    counts = (usable_cores(), arguments.agents)
    speeds: dict[tuple[str, int], list[float]] = {(mode, count): [] for mode in MODES for count in counts}
    for _ in range(arguments.repeats):
        for (mode, count), values in speeds.items():
            values.append(env_steps_per_s(mode, count, arguments.rounds * arguments.agents // count))
    rows = [_row(mode, count, speeds[mode, count], speeds[mode, counts[0]]) for mode, count in speeds]
    title = f"Agents on {usable_cores()} cores"
    print_report(title, rows, COLUMNS, f"medians of {arguments.repeats}; +-: half the quartile range")
    if arguments.json:
        print_json(facts, rows)


def env_steps_per_s(mode: str, num_agents: int, rounds: int) -> float:
    """Train once and return the environment steps of all agents together in a second."""
    words = [word for pair in _KEYS.items() for word in pair]
    with tempfile.TemporaryDirectory() as folder:
        run(train(num_agents + 1, Path(folder), "--mode", mode, "--rounds", str(rounds), *words))
        values = recorded(Path(folder)).values
    seconds = values["end_wall_s"][-2] - values["end_wall_s"][0]
    return float(values["env_steps"][1:-1].sum() / seconds)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--agents", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=20, help="of all agents; fewer agents make more")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print a last line of JSON")
    return parser.parse_args()


def _row(mode: str, count: int, speeds: list[float], alone: list[float]) -> dict[str, Any]:
    speed = Spread.of(speeds)
    return {
        "mode": mode,
        "agents": count,
        "env_steps_per_s": speed.median,
        "spread": speed.relative,
        "ratio_to_alone": speed.median / Spread.of(alone).median,
    }


if __name__ == "__main__":
    main()
