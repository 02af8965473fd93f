"""A scaling study: whole runs on ever more ranks, a model fitted to them, tables and pictures.

``python benchmarks/scaling.py --out FOLDER [--ranks 1 2 4 8 16] [--agents-per-rank 16 64 256]``
``                             [--collectives node tree secure_ring] [--rounds 8]``
``python benchmarks/scaling.py --from FOLDER/study.h5``

Weak: every agent does the same work, so the work of a round grows with the agents. Strong: a round has the
same work in all, as nearly as whole rollouts allow. Hosted: several agents on each of at most 16 ranks. The
first two rounds of a run and the last, which saves, are left out. Memory is that of all ranks together,
shared pages counted once, from a run of its own.

The speed-up is steps/s of all agents over those of the first row, the efficiency is the speed-up over the
ratio of the cores in use (weak: steps/s per core). Ranks beyond the cores share them: the ideal speed-up ends
there, and they do not count as cores. The root, which waits while agents train, does not either.

The model (`round_model.py`) adds training, waiting, encoding and the rest, taken from these runs, and an
exchange, fitted to single exchanges of several sizes on the same ranks (`cost_model.py`). It is compared
with the runs on this machine, and carried on to 4096 ranks *with a core for each*, and memory and network
that keep up with them. Ranks are started by mpirun, in a batch job on the hosts of that job.

FOLDER/study.h5 (`scaling_file.py`) is written after every run: one that is cut off leaves what it has. With
`--from`, tables and pictures are made again from such a file, the pictures beside it.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from cost_model import NODE, measure_crypto
from exchange_costs import FEWEST_AGENTS, exchange_points
from launching import most_ranks, mpirun, num_cores
from reporting import machine, print_report
from round_model import PARTS
from scaling_file import read, write
from scaling_runs import FEWEST_ROUNDS, STEADY, Study, Table, cases, measure
from scaling_tables import CORE_EACH, HERE, Tables, tables_of

from fdrl_mpi.process import FAILED
from fdrl_mpi.starting import missing_mpi

FILE = "study.h5"
LENGTHS, REPEATS = (1000, 10_000, 100_000, 1_000_000), 15
"""Parameters of the models in single exchanges, and how often each is timed."""
TIMES = {part.replace("_s", "_ms"): part.replace("_s", " ms") for part in ("round_s", *PARTS)}
WHICH = {"series": "series", "collective": "collective", "ranks": "ranks"}
SPEED = {"env_steps_per_s": "steps/s", "speed_up": "speed-up", "efficiency": "efficiency"}
MEASURED = {
    **WHICH,
    "agents": "agents",
    **SPEED,
    **TIMES,
    "rank_sent_messages": "messages/rank",
    "agent_sent_bytes": "bytes/agent",
    "root_moved_bytes": "root's bytes",
    "memory_mb_per_rank": "MB/rank",
}
FITTED = {
    "collective": "collective",
    "exchange_message_us": "us/message",
    "exchange_byte_ns": "ns/byte",
    "exchange_points": "points",
    "exchange_median_error": "median error",
    "exchange_worst_error": "worst error",
    "train_fixed_ms": "train ms +",
    "train_step_us": "us/step",
    "rest_fixed_ms": "rest ms +",
    "rest_shared_ms": "ms per rank a core",
    "record_agent_us": "record us/agent",
}
PREDICTED = {
    **WHICH,
    "cores_in_use": "cores",
    **SPEED,
    **TIMES,
    "measured_round_ms": "measured ms",
    "residual": "residual",
}


def main() -> int:
    """Measure or read, print, draw; return the exit status."""
    parser = _parser()
    arguments = parser.parse_args()
    folder = arguments.source.parent if arguments.source else arguments.out
    try:
        problems = list(_problems(arguments, parser))
        study = read(arguments.source) if arguments.source and not problems else None
    except ValueError as error:
        parser.error(str(error))
    if problems or (problems := list(_problems_of_folder(folder))):
        parser.error("\n".join(problems))
    try:
        study = study or _measure(arguments, folder / FILE)
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        print(f"{error}\nruns before this one, if any, are in {folder / FILE}", file=sys.stderr)
        return FAILED
    from figures_of_scaling import draw

    tables = tables_of(study)
    _print(study, tables)
    print(*["", arguments.source or folder / FILE, *draw(tables, study.cores, folder)], sep="\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--out", type=Path, metavar="FOLDER", help="measure, and put everything there")
    place.add_argument(
        "--from", dest="source", type=Path, metavar="FILE", help="make tables and pictures again"
    )
    parser.add_argument(
        "--ranks", nargs="+", type=int, default=[1, 2, 4, 8, 16], help="with agents; the root is one more"
    )
    parser.add_argument(
        "--agents-per-rank", nargs="*", type=int, default=[16, 64, 256], help="of the hosted series"
    )
    parser.add_argument(
        "--collectives", nargs="+", choices=sorted(NODE), default=["node", "tree", "secure_ring"]
    )
    parser.add_argument("--rounds", type=int, default=8, help="of each run")
    return parser


def _problems(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> Iterator[str]:
    """List why this cannot be done, before anything is begun."""
    if find_spec("matplotlib") is None:
        yield "no matplotlib, which draws the pictures: pip install 'fdrl-mpi[report]'"
    if arguments.source:
        for name in ("ranks", "agents_per_rank", "collectives", "rounds"):
            if getattr(arguments, name) != parser.get_default(name):
                yield f"--{name.replace('_', '-')} with --from, which measures nothing: leave out one of them"
        return
    if min(arguments.ranks) < 1 or min(arguments.agents_per_rank, default=1) < 1:
        yield "--ranks and --agents-per-rank: a run needs a rank and an agent on it; give numbers from 1 on"
    if arguments.rounds < FEWEST_ROUNDS:
        yield f"--rounds {arguments.rounds}: the first two and the last do not count; give {FEWEST_ROUNDS}"
    for name in arguments.collectives:
        if 1 <= max(arguments.ranks) < (fewest := FEWEST_AGENTS.get(name, 1)):
            yield f"--collectives {name} needs {fewest} ranks; add them to --ranks, or leave it out"
    if shutil.which("mpirun") is None:
        yield missing_mpi("no mpirun on PATH")
    most, reason = most_ranks()
    if max(arguments.ranks) + 1 > most:
        yield f"--ranks {max(arguments.ranks)}, and a root: {reason}; give at most {most - 1}"
    if (arguments.out / FILE).exists():
        yield f"{arguments.out / FILE} is there already: choose another folder, or --from to draw it again"


def _problems_of_folder(folder: Path) -> Iterator[str]:
    """Make the folder; say if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield f"{folder}: nothing can be written there ({error.strerror}): choose another folder"


def _measure(arguments: argparse.Namespace, path: Path) -> Study:
    """Time single exchanges, then whole runs; write what there is after each."""
    study = Study(machine(), num_cores(), measure_crypto(), [])
    for ranks in sorted(set(arguments.ranks)):
        print(f"exchanges of {ranks} agents", file=sys.stderr, flush=True)
        study.exchanges += exchange_points(
            ranks, dict.fromkeys(arguments.collectives), LENGTHS, REPEATS, partial(mpirun, ranks + 1)
        )
    for case in cases(dict.fromkeys(arguments.collectives), arguments.ranks, arguments.agents_per_rank):
        print(f"{case.series}, {case.collective}: {case.agents} agents", file=sys.stderr, flush=True)
        study.runs.append(measure(case, arguments.rounds))
        write(path, study)
    return study


def _print(study: Study, tables: Tables) -> None:
    facts, counted = study.facts, len(study.runs[0].values["round_s"][STEADY])
    print(f"{facts['cpu_model']}, {study.cores} cores, {facts['mpi']}")
    print(f"commit {facts['git_commit'][:7]}, {facts['start_utc']}: {facts['command']}")
    print_report(
        f"Measured on {study.cores} cores", _scaled(tables.measured), MEASURED, f"medians of {counted} rounds"
    )
    print_report(
        "Fitted", _scaled(tables.fitted), FITTED, "errors of the exchange relative to its measured times"
    )
    here, beyond = (
        _scaled([row for row in tables.predicted if row["place"] == place]) for place in (HERE, CORE_EACH)
    )
    print_report(
        f"Predicted for these {study.cores} cores",
        here,
        PREDICTED,
        "residual: predicted over measured round, less 1",
    )
    print_report(
        "Carried on, a core for each rank",
        beyond,
        PREDICTED,
        "model; cores, memory and network as fast as here",
    )


def _scaled(rows: Table) -> Table:
    """Add every time in ms, us and ns, for people."""
    units = {"ms": 1e3, "us": 1e6, "ns": 1e9}
    return [
        row
        | {
            f"{name[:-2]}_{unit}": scale * value
            for name, value in row.items()
            if name.endswith("_s") and not name.endswith("_per_s")
            for unit, scale in units.items()
        }
        for row in rows
    ]


if __name__ == "__main__":
    sys.exit(main())
