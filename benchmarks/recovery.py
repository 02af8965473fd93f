"""From a kill to the next round, and what surviving costs where nothing fails.

``python benchmarks/recovery.py [--ranks 18] [--repetitions 5] [--json]``
``python benchmarks/recovery.py --rounds 14 [--ranks 18] [--collectives node tree] [--repetitions 3]``
``mpirun -n 17 python benchmarks/recovery.py [--d 1000000] [--repeats 30] [--json]``

The first starts runs of which a rank kills itself, and takes the time from the kill, which the rank tells
just before, to the moment at which the survivors go on with the round. The second lets runs of about 10^6
parameters that survive, with one spare, take turns with runs that do not; without their first two rounds and
their last. Under mpirun, the exchange of a model through a communicator whose waits end takes turns with the
same exchange through MPI's own.
"""

import argparse
import re
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from fdrl_mpi.process import is_launched, prepare_process

prepare_process()

import numpy as np  # noqa: E402
from reporting import machine, print_json, print_report  # noqa: E402

VICTIMS = {"an agent": 3, "the root": 0}
PHASES = ("train", "mid_exchange", "publish")
COLLECTIVES = ("allreduce", "node", "tree", "gather", "secure_ring")
COST_COLUMNS = {
    "collective": "collective",
    "d": "d",
    "plain_ms": "abort ms",
    "watched_ms": "survive ms",
    "ratio": "ratio",
}
KILL_COLUMNS = {
    "collective": "collective",
    "victim": "who is killed",
    "runs": "runs",
    "median_s": "median s",
    "worst_s": "worst s",
    "right": "models right",
}


def main() -> None:
    """Measure what the launcher allows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ranks", type=int, default=18, help="of a run: the root, agents, one spare")
    parser.add_argument("--repetitions", type=int, default=2, help="runs for each phase, or of each kind")
    parser.add_argument("--rounds", type=int, default=0, help="compare whole runs of so many rounds")
    parser.add_argument("--collectives", nargs="+", default=COLLECTIVES, choices=COLLECTIVES)
    parser.add_argument(
        "--d", nargs="+", type=int, default=[10_000, 1_000_000], help="parameters of the model"
    )
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--json", action="store_true", help="print a last line of JSON")
    options = parser.parse_args()
    if is_launched():
        _measure_cost(options)
    elif options.rounds:
        _measure_rounds(options)
    else:
        _measure_recovery(options)


def _measure_cost(options: argparse.Namespace) -> None:
    from exchanges import _own, _take_turns

    from fdrl_mpi.aggregation.views import View
    from fdrl_mpi.build_collective import collective_of
    from fdrl_mpi.comm.post import Post
    from fdrl_mpi.comm.watched import WatchedComm
    from fdrl_mpi.comm.world import World, open_world
    from fdrl_mpi.config import CommConfig

    plain = open_world()
    post, rows = Post(plain.comm, 60.0), []
    for number, name in enumerate(name for name in options.collectives if name != "secure_ring"):
        for d in options.d:
            watched = World(WatchedComm(post, range(plain.size), 1 + number, silence_s=60.0))
            contest = {
                kind: _own(collective_of(CommConfig(collective=name), world, d, View.SUM), world, d)["own"]
                for kind, world in (("plain", plain), ("watched", watched))
            }
            _take_turns(plain.comm, contest, 3)
            seconds = _take_turns(plain.comm, contest, options.repeats)
            medians = {f"{kind}_ms": 1e3 * float(np.median(values)) for kind, values in seconds.items()}
            ratio = medians["watched_ms"] / medians["plain_ms"]
            rows.append({"collective": name, "d": d, **medians, "ratio": ratio})
            plain.barrier()
    post.close()
    if plain.is_root:
        print_report(
            f"One exchange on {plain.size} ranks", rows, COST_COLUMNS, f"medians of {options.repeats}"
        )
        if options.json:
            print_json(machine(), rows)


def _measure_rounds(options: argparse.Namespace) -> None:
    from launching import recorded, run, train

    from fdrl_mpi.launch_flags import FLAGS

    learning = "--learner.network.hidden=[700,700] --learner.budget=128 --learner.num_steps=16 "
    learning += (
        "--learner.num_epochs=1 --learner.num_minibatches=2 --evaluation.every=1000 --checkpoint.every=1000"
    )
    rows = []
    for name in options.collectives:
        seconds: dict[str, list[float]] = {"abort": [], "survive": []}
        for _ in range(options.repetitions):
            for mode, medians in seconds.items():
                spares = int(mode == "survive")
                words = [*learning.split(), f"--rounds={options.rounds}", f"--comm.collective={name}"]
                words += [f"--faults.mode={mode}", f"--faults.spares={spares}"]
                with tempfile.TemporaryDirectory() as folder:
                    command = train(options.ranks - 1 + spares, Path(folder), *words)
                    run([command[0], *FLAGS.split() * spares, *command[1:]])
                    metrics = recorded(Path(folder))
                medians.append(float(np.median(metrics.values["round_s"][2:-1])))
        plain_ms, watched_ms = (1e3 * float(np.median(medians)) for medians in seconds.values())
        d, ratio = metrics.attributes["num_parameters"], watched_ms / plain_ms
        rows.append(
            {"collective": name, "d": d, "plain_ms": plain_ms, "watched_ms": watched_ms, "ratio": ratio}
        )
    title = f"One round of {options.ranks - 2} agents, with a spare where it survives"
    print_report(
        title, rows, COST_COLUMNS, f"medians of {options.repetitions} runs of {options.rounds} rounds"
    )
    if options.json:
        print_json(machine(), rows)


def _measure_recovery(options: argparse.Namespace) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests/faults"))
    from harness import play

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.collectives:
            for who, rank in VICTIMS.items():
                endings = [
                    play(
                        Path(folder) / f"{name}_{rank}_{phase}_{number}",
                        f"rank={rank},round=4,phase={phase},action=kill",
                        num_ranks=options.ranks,
                        comm__collective=name,
                    )
                    for phase in PHASES
                    for number in range(options.repetitions)
                ]
                seconds = [_kill_to_next_round(ending) for ending in endings if ending.recovery_s]
                rows.append(
                    {
                        "collective": name,
                        "victim": who,
                        "runs": len(seconds),
                        "median_s": float(np.median(seconds)),
                        "worst_s": max(seconds),
                        "right": f"{sum(ending.is_right for ending in endings)} of {len(endings)}",
                    }
                )
    title = f"From a kill to the round that goes on, {options.ranks - 2} agents and one spare"
    print_report(title, rows, KILL_COLUMNS, f"{options.repetitions} runs at each of {', '.join(PHASES)}")
    if options.json:
        print_json(machine(), rows)


def _kill_to_next_round(ending: Any) -> float:
    """Compare the clock of the one that was killed with that of the root that went on."""
    killed_s = float(re.search(r"fault at ([0-9.]+)", ending.output)[1])  # type: ignore[index]
    failure = ending.verdict["failures"][-1]
    noticed_s = datetime.fromisoformat(failure["noticed_utc"]).timestamp()
    return noticed_s + failure["recovery_s"] - killed_s


if __name__ == "__main__":
    main()
