"""Every fault at every phase: ``python tests/faults/matrix.py [--collectives node tree]``.

For each collective, a root, an agent, an inner node of the tree and the root's mirror (a spare, and without
spares an agent) die or stop at every phase of a round; then pairs of them within 50 ms. A line for each that
went wrong, and a table at the end.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness import NUM_RANKS, Ending, play

from fdrl_mpi.federation.injection import PHASES

COLLECTIVES = ("allreduce", "node", "tree", "gather", "secure_ring")
ROOT_ALONE = ("tree", "gather", "secure_ring")
"""Collectives whose root alone knows the next model, so that it goes to a mirror first."""
ROLES = {"root": 0, "inner node": 1, "agent": 4, "mirror": 1, "spare": NUM_RANKS - 1}
ROUND = 4  # with a checkpoint
PAIRS = ((0, 6), (0, 1), (1, 2), (4, 6))


@dataclass(frozen=True)
class Case:
    """Something that is done to a run."""

    collective: str
    what: str
    faults: str
    num_spares: int = 1


def cases(collectives: tuple[str, ...]) -> Iterator[Case]:
    """List the matrix."""
    for collective in collectives:
        for role, rank in ROLES.items():
            for phase in _phases(role, collective):
                for action in ("kill", "stop"):
                    fault = f"rank={rank},round={ROUND},phase={phase},action={action}"
                    if phase == "recovery":
                        fault += f";rank=3,round={ROUND},phase=train,action=kill"
                    yield Case(collective, f"{role} {action} at {phase}", fault, int(role != "mirror"))
        for action in ("kill", "stop"):
            for first, second in PAIRS:
                faults = f"rank={first},round={ROUND},phase=before_train,action={action};rank={second},"
                if second == NUM_RANKS - 1:  # a spare knows no rounds
                    faults += f"round=0,phase=start,action={action},delay_s=0.5"
                else:
                    faults += f"round={ROUND},phase=before_train,action={action},delay_s=0.05"
                yield Case(collective, f"ranks {first} and {second} {action} within 50 ms", faults)


def _phases(role: str, collective: str) -> Sequence[str]:
    """List where a rank may be when it is lost; a spare takes part in two phases only."""
    if role == "spare":
        return ("mirror", "recovery") if collective in ROOT_ALONE else ("recovery",)
    return PHASES[1:]


def main() -> int:
    """Play all cases; return 1 if one of them ended wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--collectives", nargs="+", default=COLLECTIVES, choices=COLLECTIVES)
    parser.add_argument("--only", default="", help="play the cases whose name has this in it")
    options = parser.parse_args()
    rows: dict[str, list[Ending]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate(cases(tuple(options.collectives))):
            if options.only not in case.what:
                continue
            started = time.monotonic()
            settings = {"comm__collective": case.collective, "faults__spares": str(case.num_spares)}
            ending = play(Path(folder) / str(number), case.faults, **settings)
            happened = "fault at" in ending.output
            if happened or not ending.is_right:
                rows.setdefault(case.collective, []).append(ending)
            if not ending.is_right:
                print(f"WRONG {case.collective}: {case.what}: {case.faults}", flush=True)
                print(f"  {ending.verdict.get('outcome')} error {ending.error} ended {ending.is_ended}")
                print(f"  rounds {ending.rounds}, left in memory {ending.left_in_memory}")
                print("  " + "\n  ".join(ending.output.splitlines()[-12:]), flush=True)
            elif not happened:
                print(f"no message there, so no fault: {case.collective}: {case.what}", flush=True)
            if time.monotonic() - started > 20:
                print(f"SLOW {case.collective}: {case.what}: {time.monotonic() - started:.0f} s", flush=True)
    print(table(rows))
    return int(not all(ending.is_right for endings in rows.values() for ending in endings))


def table(rows: dict[str, list[Ending]]) -> str:
    """Count what was tried, what survived, and how long it took."""
    lines = ["collective    faults  survived  models wrong  most rounds lost  recovery median s  worst s"]
    for collective, endings in rows.items():
        seconds = [s for ending in endings for s in ending.recovery_s] or [float("nan")]
        right = sum(ending.is_right for ending in endings)
        lost = max(ending.num_lost_rounds for ending in endings)
        wrong = sum(e.verdict.get("outcome") == "finished" and e.error > 1e-5 for e in endings)
        lines.append(
            f"{collective:<14}{len(endings):>6}{right:>10}{wrong:>14}{lost:>18}"
            f"{np.median(seconds):>19.2f}{max(seconds):>9.2f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
