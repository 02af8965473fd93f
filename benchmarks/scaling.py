"""Whole runs with ever more agents: time per phase, messages, bytes and memory.

``python benchmarks/scaling.py [--ranks 1 2 4 8 16 32 64] [--agents-per-rank 16 64 256] [--collective auto]``
``                             [--rounds 6] [--out benchmarks/figures/scaling.png] [--json]``

Weak: every agent does the same work, so the work of a round grows with the agents. Strong: a round has the
same work in all. The longer rows put several agents on each of 16 ranks. The first round and the last, which
saves, are left out. Memory is that of all ranks together, shared pages counted once, from a run of its own.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from launching import peak_memory_mb, recorded, run, train
from reporting import machine, print_json, print_report

from fdrl_mpi.process import usable_cores

STEPS = 256
"""Environment steps of an agent in a round, where every agent does the same."""
NUM_ENVS, NUM_STEPS = 2, 64
HOSTING_RANKS = 16
PHASES = ("train_s", "wait_s", "encode_s", "exchange_s")
COLUMNS = {
    "scaling": "scaling",
    "agents": "agents",
    "ranks": "ranks",
    "env_steps_per_s": "steps/s",
    "efficiency": "efficiency",
    "round_ms": "round ms",
    **{phase.replace("_s", "_ms"): phase.replace("_s", " ms") for phase in PHASES},
    "agent_messages": "messages/rank",
    "agent_kb": "kB/agent",
    "root_kb": "root kB",
    "memory_mb_per_rank": "MB/rank",
}


def main() -> None:
    """Measure, report, draw."""
    arguments, facts = _arguments(), machine()
    cases = [("weak", ranks, 1, STEPS) for ranks in arguments.ranks]
    cases += [("weak", HOSTING_RANKS, many, STEPS) for many in arguments.agents_per_rank]
    whole = max(arguments.ranks) * NUM_ENVS * NUM_STEPS
    cases += [("strong", ranks, 1, whole // ranks) for ranks in arguments.ranks]
    rows = [_row(*case, arguments.collective, arguments.rounds) for case in cases]
    _add_efficiency(rows)
    title = f"Scaling on {usable_cores()} cores, collective {arguments.collective}"
    print_report(title, rows, COLUMNS, f"medians of {arguments.rounds - 2} rounds")
    if arguments.out:
        from figures_of_scaling import draw

        draw(rows, arguments.out)
        print(arguments.out)
    if arguments.json:
        print_json(facts, rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--ranks", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32, 64], help="with an agent each"
    )
    parser.add_argument("--agents-per-rank", nargs="*", type=int, default=[16, 64, 256], help="on 16 ranks")
    parser.add_argument("--collective", default="auto")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--out", type=Path, help="draw a PNG")
    parser.add_argument("--json", action="store_true", help="print a last line of JSON")
    return parser.parse_args()


def _row(scaling: str, ranks: int, per_rank: int, steps: int, collective: str, rounds: int) -> dict[str, Any]:
    words = _words(per_rank, steps, collective)
    with tempfile.TemporaryDirectory() as folder:
        run(train(ranks + 1, Path(folder), "--rounds", str(rounds), *words))
        metrics = recorded(Path(folder))
        memory_mb = peak_memory_mb(train(ranks + 1, Path(folder), "--rounds", "3", *words))
    values = {name: value[1:-1] for name, value in metrics.values.items()}
    seconds = {phase: float(np.median(np.nanmean(values[phase], axis=1))) for phase in PHASES}
    round_s = float(np.median(values["round_s"]))
    agents = ranks * per_rank
    return {
        "scaling": scaling,
        "agents": agents,
        "ranks": ranks + 1,
        "collective": str(metrics.attributes["collective"]),
        "env_steps_per_s": agents * steps / round_s,
        "round_s": round_s,
        "round_ms": 1e3 * round_s,
        **seconds,
        **{name.replace("_s", "_ms"): 1e3 * value for name, value in seconds.items()},
        "agent_messages": float(np.mean(values["sent_messages"]) * per_rank),
        "agent_kb": 1e-3 * float(np.mean(values["sent_bytes"])),
        "root_kb": 1e-3 * float(np.mean(values["root_sent_bytes"] + values["root_received_bytes"])),
        "memory_mb_per_rank": memory_mb / (ranks + 1),
    }


def _words(per_rank: int, steps: int, collective: str) -> list[str]:
    keys = {
        "--agents_per_rank": per_rank,
        "--comm.collective": collective,
        "--environment.num_envs": NUM_ENVS,
        "--learner.num_steps": NUM_STEPS,
        "--learner.budget": steps,
        "--evaluation.every": 1_000_000,
        "--evaluation.episodes": 1,
        "--checkpoint.every": 1_000_000,
        "--log.level": "warning",
    }
    return [str(word) for pair in keys.items() for word in pair]


def _add_efficiency(rows: list[dict[str, Any]]) -> None:
    """Compare the speed of the cores in use with the best of any row of the same kind."""
    for row in rows:
        same = [other for other in rows if other["scaling"] == row["scaling"]]
        best = max(other["env_steps_per_s"] / _cores(other) for other in same)
        row["efficiency"] = row["env_steps_per_s"] / _cores(row) / best


def _cores(row: dict[str, Any]) -> int:
    return min(int(row["agents"]), usable_cores())


if __name__ == "__main__":
    main()
