"""From mpirun to the first training step, and the memory of all ranks, beside a bare script.

``python benchmarks/start.py [--ranks 17] [--repeats 5] [--engine numpy torch] [--json]``

The bare script does what its like usually do: import and meet in a barrier; with torch, also one step of
`torch.optim.Adam`. Nothing is tuned for either; bytecode of both is warm. Memory is the largest sum of the
proportional set sizes of all ranks, sampled in runs of their own because sampling takes time.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from launching import mpirun, peak_memory_mb, recorded, run, train
from reporting import Spread, machine, print_json, print_report

BARE = """
import time
from mpi4py import MPI
import gymnasium, numpy
{more}
MPI.COMM_WORLD.Barrier()
if MPI.COMM_WORLD.rank == 0:
    print("met", time.time())
time.sleep({stay_s})
"""
ADAM_STEP = """
import torch
weight = torch.nn.Parameter(torch.zeros(8))
optimiser = torch.optim.Adam([weight])
weight.sum().backward()
optimiser.step()
"""
Result = TypeVar("Result")
MORE = {"numpy": "", "torch": ADAM_STEP}
STAY_S = 3.0
COLUMNS = {
    "engine": "engine",
    "ranks": "ranks",
    "first_step_s": "first step s",
    "bare_s": "bare barrier s",
    "beyond_bare_s": "beyond s",
    "ratio_to_bare": "ratio",
    "spread": "+-",
    "finish_s": "finish s",
    "bare_finish_s": "bare finish s",
    "memory_mb": "memory MB",
    "bare_memory_mb": "bare MB",
    "memory_ratio": "memory ratio",
}


def main() -> None:
    """Measure and report."""
    arguments, facts = _arguments(), machine()
    rows = [_row(engine, arguments.ranks, arguments.repeats) for engine in arguments.engine]
    title, repeats = f"Start of {arguments.ranks} ranks", f"medians of {arguments.repeats}, memory once"
    print_report(title, rows, COLUMNS, f"{repeats}; +-: half the quartile range of the first step")
    if arguments.json:
        print_json(facts, rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ranks", type=int, default=17)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--engine", nargs="+", default=["numpy"], choices=tuple(MORE))
    parser.add_argument("--json", action="store_true", help="print a last line of JSON")
    return parser.parse_args()


def _row(engine: str, ranks: int, repeats: int) -> dict[str, Any]:
    """Time both in turn, after one run of each that warms caches, in which memory is taken."""
    memory_mb = _with_folder(lambda folder: peak_memory_mb(_training(engine, ranks, folder, rounds=8)))
    bare_memory_mb = peak_memory_mb(_bare(engine, ranks, STAY_S))
    times = [(*_time_training(engine, ranks), *_time_bare(engine, ranks)) for _ in range(repeats)]
    first, finish, bare, bare_finish = (Spread.of(values) for values in zip(*times, strict=True))
    return {
        "engine": engine,
        "ranks": ranks,
        "first_step_s": first.median,
        "spread": first.relative,
        "finish_s": finish.median,
        "bare_s": bare.median,
        "bare_finish_s": bare_finish.median,
        "beyond_bare_s": first.median - bare.median,
        "ratio_to_bare": first.median / bare.median,
        "memory_mb": memory_mb,
        "bare_memory_mb": bare_memory_mb,
        "memory_ratio": memory_mb / bare_memory_mb,
    }


def _time_training(engine: str, ranks: int) -> tuple[float, float]:
    """Return seconds to the begin of the first round, and to the end of mpirun without that round."""

    def measure(folder: Path) -> tuple[float, float]:
        started = time.time()
        run(_training(engine, ranks, folder, rounds=1))
        ended, values = time.time(), recorded(folder).values
        round_s = float(values["round_s"][0])
        return float(values["end_unix_s"][0]) - round_s - started, ended - started - round_s

    return _with_folder(measure)


def _time_bare(engine: str, ranks: int) -> tuple[float, float]:
    """Return seconds to the end of the barrier, and to the end of mpirun."""
    started = time.time()
    output = run(_bare(engine, ranks, 0.0))
    return float(output.split("met", 1)[1].split()[0]) - started, time.time() - started


def _training(engine: str, ranks: int, folder: Path, rounds: int) -> list[str]:
    """Make the command of a run of the default configuration, cut short."""
    return train(ranks, folder, "--rounds", str(rounds), "--learner.engine", engine)


def _bare(engine: str, ranks: int, stay_s: float) -> list[str]:
    return mpirun(ranks, "-c", BARE.format(more=MORE[engine], stay_s=stay_s))


def _with_folder(measure: Callable[[Path], Result]) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        return measure(Path(folder))


if __name__ == "__main__":
    main()
